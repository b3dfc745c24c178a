"""Folders of tar files: their layout, index, writing and reading."""
