"""What every face stands on: models by name, jobs, drawing them, and what is kept of a picture.

`drawing` is the place to begin. Nothing here prints or parses: progress is reported by events (`events`), and a job
ends early by a token (`cancelling`). torch is imported when a model is loaded or verified, not before.
"""
