"""The process that draws for the studio: what it is asked for, what it tells meanwhile, and that it may die."""
