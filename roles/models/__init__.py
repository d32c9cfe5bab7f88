"""Implementations of `roles.model.Model`: transformers in this process, and vLLM servers."""
