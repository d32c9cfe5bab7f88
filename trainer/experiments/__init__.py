"""Experiments: recipes and seeds compared, from runs to tables and figures."""
