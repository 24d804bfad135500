"""Feature folders, and extraction on a GPU."""
