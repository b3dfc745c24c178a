"""What importing and loading bring along: modules, and what libraries print."""

from __future__ import annotations

import gc
import io
import json
import logging
import subprocess
import sys
import weakref
from pathlib import Path

import diffusers
import huggingface_hub
import pytest
import transformers

from anystory import AnyStoryPipeline, SubjectAdapter
from anystory.quiet import quiet_loading
from anystory.startup import collections_paused
from pipelines import helpers

BRINGS = """
import json, sys
from diffusers import StableDiffusionXLPipeline
before = set(sys.modules)
from anystory import AnyStoryPipeline
print(json.dumps(sorted(set(sys.modules) - before)))
"""

ALLOWED = {"anystory", "cv2", "diffusers", "PIL", "numpy", "accelerate"}
"""What importing the pipeline may bring besides what diffusers' own SDXL pipeline brings."""

NOT_OURS = (
    "anystory.cli",
    "anystory.data",
    "anystory.engine",
    "anystory.evaluation",
    "anystory.storyworld",
    "anystory.training",
)
"""Parts of ours that drawing does not need."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pipeline of the embedded model's layout."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    helpers.pipeline("mini").save_pretrained(path)
    return path


def test_importing_the_pipeline_brings_little_besides_diffusers_own():
    """In a process of its own: diffusers, which takes seconds, can be imported once only."""
    ended = subprocess.run([sys.executable, "-c", BRINGS], check=True, capture_output=True, text=True)
    found = {name for name in json.loads(ended.stdout) if not name.startswith("_")}
    packages = {name.partition(".")[0] for name in found} - sys.stdlib_module_names
    assert packages <= ALLOWED, packages
    assert "anystory.pipelines.sdxl" in found
    assert not [name for name in found if name.startswith(NOT_OURS)]


def state() -> list[object]:
    """All that is changed while a model is loaded."""
    loggers = [logging.getLogger(name) for name in ("transformers", "diffusers", "bitsandbytes.backends.cpu.ops")]
    return [
        [(logger.level, list(logger.filters), list(logger.handlers)) for logger in loggers],
        [list(handler.filters) for logger in loggers for handler in logger.handlers],
        transformers.utils.logging.is_progress_bar_enabled(),
        diffusers.utils.logging.is_progress_bar_enabled(),
        huggingface_hub.utils.are_progress_bars_disabled(),
        gc.isenabled(),
    ]


@pytest.fixture
def usual():
    """The libraries as they are when they have just been imported; then again as they were."""
    were = transformers.utils.logging.is_progress_bar_enabled(), diffusers.utils.logging.is_progress_bar_enabled()
    levels = transformers.utils.logging.get_verbosity(), diffusers.utils.logging.get_verbosity()
    for library in (transformers, diffusers):
        library.utils.logging.enable_progress_bar()
        library.utils.logging.set_verbosity_warning()
    yield
    for library, bars, level in zip((transformers, diffusers), were, levels, strict=True):
        library.utils.logging.set_verbosity(level)
        if not bars:
            library.utils.logging.disable_progress_bar()


@pytest.fixture
def logged(usual):
    """What the libraries' handlers print; theirs write to the standard error of the time when they were imported."""
    text = io.StringIO()
    handlers = {logging.getLogger(name): logging.StreamHandler(text) for name in ("transformers", "diffusers")}
    for logger, handler in handlers.items():
        logger.addHandler(handler)
    yield text
    for logger, handler in handlers.items():
        logger.removeHandler(handler)


@pytest.mark.parametrize("disabled", [False, True])
def test_loading_prints_nothing_and_leaves_everything_as_it_was(folder, logged, capfd, disabled):
    if disabled:  # a user's wish for fewer bars outlives it, too
        transformers.utils.logging.disable_progress_bar()
        huggingface_hub.utils.disable_progress_bars()
    before = state()
    AnyStoryPipeline.from_pretrained(folder)
    SubjectAdapter.from_pretrained(folder / "adapter")
    assert (*capfd.readouterr(), logged.getvalue()) == ("", "", "")
    assert state() == before
    huggingface_hub.utils.enable_progress_bars()


def test_a_failure_leaves_everything_as_it_was(tmp_path, usual):
    before = state()
    with pytest.raises(ValueError):
        AnyStoryPipeline.from_pretrained(tmp_path)
    assert state() == before


def test_what_a_user_can_act_on_is_printed(folder, logged):
    AnyStoryPipeline.from_pretrained(folder, adaptor="misspelt")
    assert "adaptor" in logged.getvalue()


def test_a_user_who_wants_to_know_all_is_told_all(logged):
    logger = logging.getLogger("diffusers.somewhere")
    with quiet_loading():
        logger.warning("not this")
        logger.error("an error")
    logger.warning("this")
    diffusers.utils.logging.set_verbosity_info()
    with quiet_loading():
        logger.warning("and that")
    assert logged.getvalue().splitlines() == ["an error", "this", "and that"]


def test_downloads_keep_their_bars(usual):
    huggingface_hub.utils.enable_progress_bars()
    with quiet_loading():
        assert not transformers.utils.logging.is_progress_bar_enabled()
        assert not huggingface_hub.utils.are_progress_bars_disabled()


def test_what_was_made_meanwhile_can_still_be_collected():
    class Node:
        pass

    with collections_paused():
        node = Node()
        node.itself = node  # pyright: ignore[reportAttributeAccessIssue]
        gone = weakref.ref(node)
        del node
    gc.collect()
    assert gone() is None


def test_the_collector_waits_and_works_again():
    with collections_paused():
        assert not gc.isenabled()
        with collections_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    with pytest.raises(RuntimeError), collections_paused():
        raise RuntimeError
    assert gc.isenabled()
    gc.disable()
    try:
        with collections_paused():
            pass
        assert not gc.isenabled()  # who has switched it off switches it on
    finally:
        gc.enable()
