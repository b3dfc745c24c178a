"""Data sets as training takes them: an endless stream of samples, and a cache of what frozen encoders make of it."""
