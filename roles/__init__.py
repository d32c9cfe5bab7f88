"""Who plays: teacher (easy and hard seat), solver, verifier; models, prompts, question sets."""
