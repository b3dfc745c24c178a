"""A record with everything in it."""

from __future__ import annotations

from anystory.engine.record.schema import FileRecord, PhotoRecord, PictureRecord, SubjectRecord

__all__ = ["FILE", "record"]

FILE = FileRecord(file="references/fox.png", sha256="ab", original="/somewhere/fox.png")


def record(**changes):
    values = {
        "prompt": "a fox, “quoted” and ü",
        "negative_prompt": None,
        "seed": 7,
        "steps": 25,
        "guidance": 7.5,
        "width": 64,
        "height": 64,
        "subjects": (
            SubjectRecord(image=FILE, name="fox", region=(0.0, 0.0, 0.5, 1.0)),
            SubjectRecord(image=FILE, mask=FILE, scale=0.1 + 0.2),
            SubjectRecord(
                image=FILE, more=(PhotoRecord(image=FILE, mask=FILE, cutout="mask"), PhotoRecord(image=FILE))
            ),
        ),
        "model": "mini",
        "adapter": None,
        "device": "cpu",
        "dtype": "float32",
        "weights": {"model/unet/x.safetensors": "cd"},
        "environment": {"torch": "2.13.0"},
        "picture": "0001.png",
        "picture_sha256": "ef",
    }
    return PictureRecord(**(values | changes))
