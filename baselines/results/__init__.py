"""A run as tables, figures and a page."""
