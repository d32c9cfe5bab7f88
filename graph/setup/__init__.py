"""Putting a run together: inputs, folder, models and roles."""
