"""Pages of pictures: routing maps, cut-outs."""
