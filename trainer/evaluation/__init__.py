"""An evaluation of one policy, whoever made its weights: which policy, on which questions, and what came out."""
