"""Guest side of the interpreter: the files that are copied into the sandbox image."""
