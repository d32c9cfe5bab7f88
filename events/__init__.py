"""The event log: facts, values, stores, projections. Imports nothing of ours."""
