"""The published tables rebuilt."""
