"""How consistent a book's characters are, and what its prompts did not bring about."""
