"""An adapter's folder on disk, and the public weights that one can start from."""
