"""Several candidates of a picture, scored, of which the best is kept (`anystory generate --best-of`)."""
