"""Heads: their art by kind, faces by expression, hats, and how they are drawn on a neck."""
