"""Stories drawn on the machines of a Ray cluster: the same files as one process writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from anystory.files import sha256_file
from anystory.story.model_facts import model_digest
from anystory.story.runner.drawing import PanelDrawn
from anystory.story.runner.keeping import book_writer, keep_files
from anystory.story.runner.on_ray import RemoteDrawer, files_of, with_absolute_paths
from anystory.story.runner.render import prepare_book, render_story
from anystory.story.runner.tasks import open_tasks
from ray_clusters import NO_RAY, two_nodes

STORY = """\
title: Many
steps: 1
cast:
  red: {looks: a fox, photos: red.png}
  blue: {looks: a robot, photos: {image: blue.png, mask: blue-mask.png}}
panels: [Red waving, Red and Blue, night, Blue sitting, Red sitting, day, Blue waving, Blue and Red]
"""


def contents(book: Path) -> dict[str, bytes]:
    """Every file of a book."""
    return {str(path.relative_to(book)): path.read_bytes() for path in book.rglob("*") if path.is_file()}


def test_another_machine_sends_back_what_this_one_would_write(write, options, model, tmp_path, monkeypatch):
    """What an actor runs, without Ray; its machine may be in another folder."""
    file = write()
    render_story(file, tmp_path / "here", options, load=lambda _: model)
    monkeypatch.chdir(tmp_path)
    there = Path("there")
    with book_writer(there):
        tasks = list(map(with_absolute_paths, open_tasks(there, prepare_book(file, there, options))))
        pictures = {path: sha256_file(path) for task in tasks for path in files_of(task)}
        assert len(pictures) == 3
        draw = RemoteDrawer(options, True, model_digest(options), pictures)
        monkeypatch.chdir("/")
        found = [(task, draw(task)) for task in tasks]
        monkeypatch.chdir(tmp_path)
        for task, files in found:
            keep_files(there, task.plan.key, task.number, files)
    assert contents(there) == contents(tmp_path / "here")
    [task, *_] = tasks
    Image.new("RGB", (48, 48)).save(file.folder / "red.png")
    with pytest.raises(ValueError, match="has another picture at .*red.png"):
        RemoteDrawer(options, True, model_digest(options), pictures)(task)
    (file.folder / "red.png").unlink()
    with pytest.raises(ValueError, match="does not see .*red.png"):
        RemoteDrawer(options, True, model_digest(options), pictures)(task)
    with pytest.raises(ValueError, match="has another model or version at .*tiny"):
        RemoteDrawer(options, True, model_digest(replace(options, scheduler="DDIMScheduler")), pictures)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one core."""
    with two_nodes({"PYTHONPATH": os.environ.get("PYTHONPATH", "")}) as made:
        yield made


@NO_RAY
def test_a_cluster_that_loses_a_node_writes_the_same_book(write, options, model, tmp_path, cluster):
    """The second node is taken away as soon as something is drawn, while its actor is at work or starting."""
    file = write(STORY)
    render_story(file, tmp_path / "here", options, load=lambda _: model)
    [_, second] = cluster.list_all_nodes()
    numbers: list[int] = []

    def listen(event: object) -> None:
        if isinstance(event, PanelDrawn):
            numbers.append(event.task.plan.number)
            if event.done == 2:
                cluster.remove_node(second, allow_graceful=False)

    done = render_story(file, tmp_path / "there", options, ray=cluster.address, on_event=listen)
    assert (len(done.drawn), sorted(numbers)) == (8, [1, 2, 3, 4, 5, 6, 7, 8])
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert render_story(file, tmp_path / "there", options, ray=cluster.address).kept == 8
