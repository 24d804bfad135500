"""The experiments that the paper leaves open, one module a study."""
