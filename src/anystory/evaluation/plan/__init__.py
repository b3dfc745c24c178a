"""What a training run will cost, counted before it runs: memory, operations, hours, disk."""
