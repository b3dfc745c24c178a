"""A program that renders a tiny story and is killed at each of its file operations: `python killed_books.py FOLDER`.

Torch is imported and the model loaded once; every render is a forked child. Each book lies in FOLDER/NUMBER, killed at
its NUMBER-th operation and then rendered again; FOLDER/unbroken was not disturbed. What was done is printed as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from PIL import Image

from anystory.engine.drawing import load
from anystory.engine.options import ModelOptions
from anystory.story.book_folder import read_book
from anystory.story.reading import read_story
from anystory.story.runner.render import render_story
from cli.conftest import give_references
from pipelines import helpers

STORY = """\
title: t
steps: 1
cast:
  red: {looks: a fox, photos: red.png}
  mara: {storyworld: a blue fox}
panels:
  - Red and Mara
  - night
"""

OPERATIONS = ("rename", "replace", "link", "mkdir", "unlink", "rmdir")
"""Of the module `os`; those of pathlib and shutil call them."""


class Deadly:
    """Counts file operations, and kills the process at one of them: before it, after it, or half done."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, real: Callable[..., Any], half: Callable[..., Path] | None = None) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*arguments, **named)
            if half is not None:
                self.left -= 1
                if self.left == 0:
                    path = half(*arguments)
                    os.truncate(path, path.stat().st_size // 2)
                    os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    def install(self) -> None:
        """Replace the operations of this process."""
        for name in OPERATIONS:
            setattr(os, name, self(getattr(os, name)))
        Image.Image.save = self(Image.Image.save, half=lambda picture, path, *more: Path(path))
        Path.write_text = self(Path.write_text, half=lambda path, *more: path)
        shutil.copyfile = self(shutil.copyfile, half=lambda source, target, *more: Path(target))


class Remembering:
    """A real model that draws each picture once: what is tested here is how pictures are written."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.known: dict[Any, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def encode(self, subject: Any) -> Any:
        return self._once(repr(subject), lambda: self.model.encode(subject))

    def start(self, job: Any, subjects: Any) -> Any:
        return Remembering._Call(self, job, subjects)

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self.known:
            self.known[key] = make()
        return self.known[key]

    class _Call:
        def __init__(self, owner: Remembering, job: Any, subjects: Any) -> None:
            self.owner, self.job, self.subjects = owner, job, subjects

        def draw(self, seed: int, **options: Any) -> Any:
            key = (self.job.prompt, seed)
            return self.owner._once(key, lambda: self.owner.model.start(self.job, self.subjects).draw(seed, **options))


def render(story: Path, book: Path, options: ModelOptions, model: Any, number: int) -> int:
    """Render in a forked child that is killed at an operation (0: never); its code, negative for a signal."""
    process = os.fork()
    if process == 0:
        _render(story, book, options, model, number)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _render(story: Path, book: Path, options: ModelOptions, model: Any, number: int) -> NoReturn:
    code = 4
    try:
        torch.set_num_threads(1)
        if number:
            Deadly(number).install()
        done = render_story(read_story(story), book, options, load=lambda _: model)
        code = 10 + len(done.drawn)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def drawn_before(book: Path) -> int:
    """How many panels of a book are drawn, each whole; a book without an index has none."""
    if not (book / "book.json").is_file():
        return 0
    chosen = [panel.chosen for panel in read_book(book).panels]
    for candidate in chosen:
        if candidate is not None:
            candidate.masks()
            with Image.open(candidate.picture) as picture:
                picture.load()
    return sum(candidate is not None for candidate in chosen)


def main(folder: Path) -> None:
    """Kill at every operation until one render has fewer."""
    torch.set_num_threads(1)
    helpers.pipeline("mini", default_call={"num_inference_steps": 1, "guidance_scale": 1.0}).save_pretrained(
        folder / "tiny"
    )
    (folder / "story").mkdir()
    story = give_references(folder / "story") / "story.yaml"
    story.write_text(STORY)
    options = ModelOptions(model=str(folder / "tiny"), threads=1)
    model: Any = Remembering(load(options))
    _ = model.weights  # hashed by a thread, which a child would not have
    render_story(read_story(story), folder / "unbroken", options, load=lambda _: model)
    done: list[list[int]] = []
    number, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        number += 1
        book = folder / str(number)
        code = render(story, book, options, model, number)
        before = drawn_before(book)
        done.append([code, before, render(story, book, options, model, 0)])
    print(json.dumps(done))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
