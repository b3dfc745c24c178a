"""A model folder whose adapter knows nothing yet, and a recipe for a short stage 1 with one of the gates of D13.

    python benchmarks/stage1_start.py paper runs/paper-start
    anystory train encoder --recipe runs/paper-start/recipe.yaml --start runs/paper-start --out runs/paper --steps 240
    anystory eval storyworld --model runs/paper/model --rows oracle,no-router --n 128

`paper`, and `masks` without `--subjects`, learn from the same scenes, each with one character. With `--targets` a step
keeps its number of pictures, whatever number of them shares references.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from start_folder import check_new, recipe_values, write_start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gate", choices=("paper", "masks"))
    parser.add_argument("out", type=Path, help="folder to write; it must not exist yet")
    parser.add_argument("--model", default="mini", help="whose base model it is")
    parser.add_argument("--recipe", default="mini-128", help="whose stage `encoder` goes to OUT/recipe.yaml")
    parser.add_argument("--subjects", type=int, default=1, help="the most characters in a scene")
    parser.add_argument("--targets", type=int, help="pictures of the same references; by default the recipe's")
    options = parser.parse_args()
    check_new(options.out)
    values = recipe_values(options.recipe, "encoder")
    gate = {"gate": options.gate, "max_subjects": options.subjects, "router_share": 0.0}
    stage = values["stages"]["encoder"]
    if options.targets is not None:
        stage["batch_size"] = stage["batch_size"] * stage["options"]["targets"] // options.targets
        gate["targets"] = options.targets
    stage["options"] |= gate
    write_start(options.out, options.model, values)


if __name__ == "__main__":
    main()
