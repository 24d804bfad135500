"""Readers of features and scores: one module per file format."""
