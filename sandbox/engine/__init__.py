"""The Docker engine that sandboxes run in, and the sandbox image."""
