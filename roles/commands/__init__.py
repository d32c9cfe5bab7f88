"""The commands of `python -m roles`."""
