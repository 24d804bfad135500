"""Rebuilding the published tables."""
