"""What all commands share: the application wrapper and output."""
