"""Getting, unpacking and checking the dataset."""
