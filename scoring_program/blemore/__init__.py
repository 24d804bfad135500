"""The scoring program of the BLEMORE challenge."""
