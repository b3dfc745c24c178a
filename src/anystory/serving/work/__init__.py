"""Jobs on their way through the workers: handed out, drawn, and reported."""
