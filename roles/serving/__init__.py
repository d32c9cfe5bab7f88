"""vLLM servers of our own: what they are told, how they start, and how they end with us."""
