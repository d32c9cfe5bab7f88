"""The process: start-up, shutdown, console, home folder, current activity."""
