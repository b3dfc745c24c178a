"""The model folder that a run reads and writes."""
