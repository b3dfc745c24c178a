"""Stories that come from elsewhere: storyboards of AnyStory's authors, scripts in Markdown or Fountain."""
