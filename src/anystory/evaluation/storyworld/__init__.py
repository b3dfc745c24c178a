"""The StoryWorld table: are the given characters in the picture that was asked for? (`anystory eval storyworld`)"""
