"""The models that draw: one backend for each family."""
