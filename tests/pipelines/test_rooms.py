"""What every family of models shares knows none of them."""

from __future__ import annotations

from pathlib import Path

import anystory.pipelines

HERE = Path(anystory.pipelines.__path__[0])


def test_what_is_shared_knows_no_unet():
    """Arguments, checks, records: a pipeline on another kind of denoiser uses them as they are."""
    shared = [*HERE.glob("*.py"), *HERE.glob("checks/*.py")]
    assert len(shared) > 6
    for file in shared:
        text = file.read_text(encoding="utf-8")
        for word in ("pipelines.unet", "pipelines.sdxl", "UNet2D", "StableDiffusionXL", "SubjectAdapter"):
            assert word not in text, f"{file.name} names {word}"
