"""What is in a downloaded dataset."""
