"""Samples to train on: their format, manifests and shards, checks, caches. Imports torch only for a cache."""
