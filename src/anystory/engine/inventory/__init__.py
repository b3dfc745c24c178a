"""What lies on disk: models described and verified."""
