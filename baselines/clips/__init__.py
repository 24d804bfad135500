"""Reads one file into frames and sound."""
