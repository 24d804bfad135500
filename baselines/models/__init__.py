"""Heads, recipes, their cross-validation, and the run folder that results go into."""
