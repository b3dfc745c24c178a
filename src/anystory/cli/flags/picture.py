"""The options about the picture, as `generate` has them. Nothing heavy is imported."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from anystory.engine.job import Job, SubjectFiles
from anystory.engine.limits import MOST_PICTURES, MOST_SEED, MOST_STEPS, check_seeds

__all__ = ["PictureFlags", "Steps", "parse_size"]

Steps = Annotated[int | None, typer.Option(min=1, max=MOST_STEPS, help="Sampling steps; by default the model's.")]


@dataclass(frozen=True, kw_only=True)
class PictureFlags:
    """What is drawn, how often and how large."""

    image: Annotated[
        Path | None,
        typer.Option(
            "--image",
            "-i",
            help="A picture to draw over. The result has its shape, and at most about the model's number of pixels.",
        ),
    ] = None
    mask: Annotated[
        Path | None, typer.Option(help="White where --image is drawn again; everything else stays as it is.")
    ] = None
    strength: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="How much of --image to change; by default 0.8, or 1 with --mask."),
    ] = None
    seed: Annotated[
        int | None, typer.Option(min=0, max=MOST_SEED, help="Seed of the first picture; by default a random one.")
    ] = None
    background_seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MOST_SEED,
            help="Pictures with the same one share their background; they take a quarter more steps.",
        ),
    ] = None
    num: Annotated[
        int,
        typer.Option(
            "--num", "-n", min=1, max=MOST_PICTURES, help="Number of pictures; their seeds follow one another."
        ),
    ] = 1
    steps: Steps = None
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; by default the model's.")] = None
    negative: Annotated[str | None, typer.Option(help="What not to draw.")] = None
    true_cfg: Annotated[
        float | None,
        typer.Option(help="On FLUX.1: weight of --negative, above 1, such as 3. Each step then runs twice."),
    ] = None
    isolation: Annotated[
        str | None,
        typer.Option(
            help="On FLUX.2 klein: what references read, off, on (themselves, the default) or strict (nothing leaves a "
            "--region)."
        ),
    ] = None
    text_gate: Annotated[
        str | None,
        typer.Option(help="On FLUX.2 klein: text tokens that read no reference: none (the default), padding or all."),
    ] = None
    routing: Annotated[
        str | None,
        typer.Option(help="On FLUX.2 klein, experimental: attention finds a place for subjects without --region."),
    ] = None
    size: Annotated[str | None, typer.Option(metavar="N|WxH", help="Size in pixels; by default the model's.")] = None

    def job(self, prompt: str, subjects: tuple[SubjectFiles, ...]) -> Job:
        """One job of it.

        Raises:
            ValueError: a value that cannot be.
        """
        width, height = parse_size(self.size)
        return Job(
            prompt=prompt,
            subjects=subjects,
            image=self.image,
            mask=self.mask,
            strength=self.strength,
            negative_prompt=self.negative,
            steps=self.steps,
            guidance=self.guidance,
            true_cfg=self.true_cfg,
            isolation=self.isolation,
            text_gate=self.text_gate,
            routing=self.routing,
            background_seed=self.background_seed,
            width=width,
            height=height,
        )

    def seeds(self) -> range:
        """A seed for each picture.

        Raises:
            OptionError: the last one is too large.
        """
        import secrets

        if self.seed is not None:
            check_seeds(self.seed, self.num)
        first = secrets.randbelow(2**31) if self.seed is None else self.seed
        return range(first, first + self.num)


def parse_size(text: str | None) -> tuple[int, int] | tuple[None, None]:
    """`512` or `640x512` (width first) as (width, height).

    Raises:
        ValueError: anything else.
    """
    if text is None:
        return None, None
    match = re.fullmatch(r"([0-9]{1,6})(?:[x×]([0-9]{1,6}))?", text.strip().lower())
    if match is None or not int(match.group(1)) or match.group(2) == "0":
        raise ValueError(f"--size must be a number of pixels or WIDTHxHEIGHT, got {text!r}")
    return int(match.group(1)), int(match.group(2) or match.group(1))
