"""`segment` measured on StoryWorld (`anystory eval segment`), and its fusion fitted there."""
