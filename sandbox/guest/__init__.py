"""Guest side of the wall: the files that are copied into the sandbox image."""
