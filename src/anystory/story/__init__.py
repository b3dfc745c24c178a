"""Stories: a cast and a script in one file, drawn panel by panel into a book. It stands above the engine."""
