"""The Docker engine, the sandbox image, and the ownership of containers."""
