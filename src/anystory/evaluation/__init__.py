"""Measuring and showing what the models do."""
