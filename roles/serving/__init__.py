"""vLLM servers that this project starts: their command lines, their start, and their end."""
