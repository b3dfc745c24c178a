"""The attribute classifier ("the judge") reads pictures of the world: who stands where, wearing what, in which place.

    from anystory.storyworld.attribute_classifier.classifier import AttributeClassifier

    reading = AttributeClassifier.load().read(images)[0]     # images: (B, 3, 64, 64) in [-1, 1]
    reading.characters[0].attributes["headwear"]

It is trained on renders, apart from every generative model, and never takes part in their training. `truth` and
`attributes` need no torch.
"""
