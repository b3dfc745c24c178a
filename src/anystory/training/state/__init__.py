"""What a run changes: weights, optimizer, averages, and their checkpoints."""
