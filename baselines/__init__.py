"""The challenge's baselines: features, heads, thresholds, submissions. See README.md in this folder."""
