"""Features and scores in the files that hold them: one module per format."""
