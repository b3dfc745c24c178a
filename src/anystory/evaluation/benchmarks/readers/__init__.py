"""Readers of the layouts in which benchmarks are published: a folder to cases."""
