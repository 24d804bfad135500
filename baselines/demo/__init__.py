"""Invented clips."""
