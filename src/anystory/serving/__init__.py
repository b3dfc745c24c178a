"""The server: requests over HTTP become jobs, which worker processes draw through the engine.

`run.serve` is the place to begin. Nothing here imports torch: the worker's process does, through the engine.
"""
