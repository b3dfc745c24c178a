"""What is in a data set: counts, charts and a page to look at."""
