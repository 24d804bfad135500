"""Tables, figures and a page of a run's results."""
