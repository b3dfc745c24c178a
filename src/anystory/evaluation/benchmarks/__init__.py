"""The field's benchmarks: their layouts read, pictures drawn by the engine, scores, one page (docs/benchmarks.md).

`run.run_benchmark` is the place to begin.
"""
