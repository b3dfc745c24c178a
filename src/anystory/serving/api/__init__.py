"""The server's HTTP: what requests look like, and what they become."""
