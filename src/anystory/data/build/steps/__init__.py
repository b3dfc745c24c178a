"""What is done with a candidate, one step per file."""
