"""Heads, recipes and their cross-validation."""
