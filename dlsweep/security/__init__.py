"""Secrets, and what the config of a run folder may import or contact."""
