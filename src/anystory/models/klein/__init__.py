"""Subjects on FLUX.2 klein, without any training: who reads which reference."""
