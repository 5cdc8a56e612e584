"""Promises about a model, what was found when they were tested, and whether that can still be believed."""
