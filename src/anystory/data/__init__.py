"""Samples to train on: their format, manifests and shards, readers that check, caches. Imports no torch by itself."""
