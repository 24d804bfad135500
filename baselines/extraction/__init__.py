"""Where features go, and how a GPU is kept busy."""
