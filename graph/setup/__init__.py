"""From settings to a run that can start: folder, log, models, roles."""
