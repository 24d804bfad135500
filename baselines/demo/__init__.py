"""Invented clips: a small dataset in the challenge's own format."""
