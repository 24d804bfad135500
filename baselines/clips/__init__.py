"""Finds the files of clips, and reads frames and sound from them."""
