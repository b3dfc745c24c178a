"""StoryWorld: a procedural picture-book world, drawn as vector graphics from a seed.

    from anystory.storyworld.render import render_scene
    from anystory.storyworld.sampling import sample_scene

    scene = sample_scene(7, level=1)
    picture = render_scene(scene, 512).image      # (512, 512, 3) uint8; scene.caption says what it shows

Only `attribute_classifier` imports torch.
"""
