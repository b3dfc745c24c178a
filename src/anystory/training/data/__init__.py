"""Samples as the stages take them."""
