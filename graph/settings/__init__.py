"""The settings of a run, from files and the command line, validated."""
