"""Small folders in the benchmarks' public layouts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (200, 40, 40), "blue": (40, 40, 200), "green": (30, 160, 60), "grey": (120, 120, 120)}


def photo(path: Path, colour: str, *, corner: int = 12, side: int = 48) -> Path:
    """A square of a colour on a plain ground, off the middle so that its mirror image differs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((side, side, 3), 235, np.uint8)
    pixels[corner : corner + 24, corner : corner + 24] = COLOURS[colour]
    pixels[corner : corner + 24, corner : corner + 8] = 20
    Image.fromarray(pixels).save(path)
    return path


def dreambooth(root: Path) -> Path:
    """Two subjects, one of them alive, with two prompts each."""
    folder = root / "dataset"
    for name, colour in (("dog6", "red"), ("vase", "blue")):
        photo(folder / name / "01.jpg", colour, corner=6)
        photo(folder / name / "00.jpg", colour)
    token = ".format(unique_token, class_token)"
    (folder / "prompts_and_classes.txt").write_text(
        "Classes\n\nsubject_name,class\ndog6,dog\nvase,vase\n\nPrompts\n\nObject Prompts\n\nprompt_list = [\n"
        f"'a {{0}} {{1}} in the snow'{token},\n'a red {{0}} {{1}}'{token}\n]\n\n"
        "Live Subject Prompts\n\nprompt_list = [\n"
        f"'a {{0}} {{1}} in the snow'{token},\n'a {{0}} {{1}} in a chef outfit'{token}\n]\n"
    )
    return root


def pair_list(root: Path) -> Path:
    """UNO's folder `datasets`: a list, and the photos beside it."""
    photo(root / "dreambooth" / "dataset" / "cat" / "04.jpg", "red")
    photo(root / "dreambooth" / "dataset" / "dog" / "02.jpg", "blue")
    photo(root / "dreambooth" / "dataset" / "vase" / "02.jpg", "green")
    paths = [f"./dreambooth/dataset/{name}.jpg" for name in ("cat/04", "dog/02", "vase/02")]
    entries = [
        {"prompt": "a cat and a dog in the snow", "image_paths": paths[:2]},
        {"prompt": "a cat and a dog on the beach", "image_paths": paths[:2]},
        {"prompt": "a dog and a vase in the snow", "image_paths": paths[1:]},
    ]
    (root / "dreambench_multiip.json").write_text(json.dumps(entries))
    return root


MS_TABLE = """
data_class_dict = {"cat": "cat", "dog6": "dog", "vase": "vase", "barn": "barn"}
two_subject_combinations = ["living_living", "living_object", "living_scene"]
three_subject_combinations = ["living_object_scene"]
subject_combination_boxes = {
    "living_living": [[0., 0.25, 0.5, 0.75], [0.5, 0.25, 1., 0.75]],
    "living_object": [[0., 0.25, 0.5, 0.75], [0.5, 0.25, 1., 0.75]],
    "living_scene": [[0.25, 0.25, 0.75, 0.75], [0., 0., 1., 1.]],
    "living_object_scene": [[0., 0.25, 0.5, 0.75], [0.5, 0.25, 1., 0.75], [0., 0., 1., 1.]],
}
pairs = ["a {0} and a {1} in a room", "a {0} and a {1} in the snow"]
subject_combination_prompts = {
    "living_living": pairs,
    "living_object": pairs,
    "living_scene": ["a {0} with a {1} in the background"],
    "living_object_scene": ["a {0} and {1} with a {2} in the background"],
}
"""


def ms_bench(root: Path) -> Path:
    """The repository: pictures by type, and the table of constants."""
    for name, colour in (
        ("living/cat", "red"),
        ("living/dog6", "blue"),
        ("object/vase", "green"),
        ("scene/barn", "grey"),
    ):
        photo(root / "msbench" / f"{name}.jpg", colour)
    table = root / "msdiffusion" / "dataset" / "prompts" / "msbench.py"
    table.parent.mkdir(parents=True)
    table.write_text(MS_TABLE)
    return root


def multibanana(root: Path) -> Path:
    """Two tasks; one counts its references from 0, one from 1."""
    for task, number, first, count in (("2_objects", "006", 0, 2), ("3_back", "014", 1, 3)):
        for place, colour in zip(range(first, first + count), COLOURS, strict=False):
            photo(root / task / f"{number}_{place}.jpg", colour)
        (root / task / f"{number}_prompt.txt").write_text(f"Put them\nside by side, {task}.\n")
    return root


def vistory(root: Path) -> Path:
    """Two stories: one with two characters and three shots, one with a shot that shows nobody."""

    def shot(index: int, names: list[str], plot: str) -> dict[str, object]:
        both = lambda text: {"en": text, "ch": f"{text} (ch)"}  # noqa: E731
        return {
            "index": index,
            "Setting Description": both("a meadow"),
            "Plot Correspondence": both(plot),
            "Characters Appearing": {"en": names, "ch": [f"{name} (ch)" for name in names]},
            "Static Shot Description": both("they sit"),
            "Shot Perspective Design": both("long shot"),
        }

    def look(name: str) -> dict[str, str]:
        return {
            "name_en": name,
            "name_ch": f"{name} (ch)",
            "prompt_en": "a rabbit",
            "prompt_ch": "(ch)",
            "tag": "non_human",
        }

    stories = {
        "01": (["Big", "Small"], [(1, ["Big"], "wakes"), (2, ["Big", "Small"], "talk"), (3, ["Small"], "sleeps")]),
        "79": (["Big"], [(1, ["Big"], "walks"), (2, [], "the sun sets")]),
    }
    for number, (names, shots) in stories.items():
        for name, colour in zip(names, COLOURS, strict=False):
            photo(root / "ViStory" / number / "image" / name / "00.jpg", colour)
            photo(root / "ViStory" / number / "image" / name / "01.jpg", colour, corner=6)
        story = {
            "Story_type": {"en": "fairy tale", "ch": "(ch)"},
            "Characters": {name: look(name) for name in names},
            "Shots": [shot(*one) for one in shots],
        }
        (root / "ViStory" / number / "story.json").write_text(json.dumps(story), encoding="utf-8-sig")
    return root
