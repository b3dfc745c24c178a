"""The record of a picture: what is needed to draw it again."""
