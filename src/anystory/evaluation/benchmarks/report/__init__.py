"""The page that shows a run. One HTML file, no script, nothing loaded."""
