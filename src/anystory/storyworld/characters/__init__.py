"""Characters: bodies, heads, patterns, emblems and wear, drawn by kind, pose and view."""
