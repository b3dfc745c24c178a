"""Pipelines: diffusers' own, plus subjects."""
