"""The process: start-up, shutdown, console, home folder, and current activity."""
