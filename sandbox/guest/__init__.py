"""Guest side of the trust boundary: the files that are copied into the sandbox image."""
