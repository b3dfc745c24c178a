"""A story's panels drawn into a book, and drawn again."""
