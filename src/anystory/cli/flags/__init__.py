"""The options that verbs share, and what is typed for them."""
