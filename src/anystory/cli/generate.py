"""`anystory generate`: pictures of your subjects from a prompt."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from anystory.cli.drawing import Job, Session, SubjectFiles, draw_job

__all__ = ["generate"]


def generate(
    prompt: Annotated[str, typer.Argument(help='What to draw: "a fox and a robot on a beach".')],
    subject: Annotated[
        list[str] | None,
        typer.Option("--subject", "-s", metavar="PATH[:MASK]", help="A subject's picture, and its mask. Repeat it."),
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(
            metavar="I:X0,Y0,X1,Y1", help="Subject I (from 1) goes into this box, in fractions of the picture."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="Of the first picture; by default a new one.")
    ] = None,
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="Pictures to draw, with seeds one after another.")] = 1,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps; by default the model's.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; by default the model's.")] = None,
    negative: Annotated[str | None, typer.Option(help="What not to draw.")] = None,
    size: Annotated[str | None, typer.Option(metavar="N|WxH", help="Size in pixels; by default the model's.")] = None,
    model: Annotated[str, typer.Option(help="An embedded model (mini), a folder, or a hub id.")] = "mini",
    adapter: Annotated[str | None, typer.Option(help="An adapter that is not the model's own: folder or id.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; by default torch's own choice.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; nothing in it is overwritten.")] = Path("out"),
    sheet: Annotated[bool, typer.Option("--sheet/--no-sheet", help="Draw the sheet of routing maps.")] = True,
) -> None:
    """Draw pictures of your subjects from a prompt.

    Writes PNGs, a sheet of the routing maps, and a JSON record beside each picture that `anystory replay` draws again.
    """
    import secrets

    width, height = parse_size(size)
    job = Job(
        prompt=prompt,
        subjects=parse_subjects(subject or [], region or []),
        negative_prompt=negative,
        steps=steps,
        guidance=guidance,
        width=width,
        height=height,
    )
    for given in job.subjects:
        given.subject().prepare(64)  # a bad picture is told before a large model is loaded
    session = Session(model, adapter, device=device, dtype=dtype, threads=threads)
    for line in session.unknown_words(f"{prompt} {negative or ''}"):
        print(f"warning: {line}", file=sys.stderr)
    first = secrets.randbelow(2**31) if seed is None else seed
    drawn = draw_job(session, job, range(first, first + num), out, sheet=sheet)
    for one in drawn:
        print(f"{one.picture} (seed {one.record.seed})" + (f", routing maps: {one.sheet}" if one.sheet else ""))


def parse_subjects(subjects: Sequence[str], regions: Sequence[str]) -> tuple[SubjectFiles, ...]:
    """The values of --subject and --region as subjects, named after their files.

    Raises:
        ValueError: a region that cannot be read, or for a subject that does not exist or has one already.
        FileNotFoundError: no such picture or mask.
    """
    boxes: dict[int, tuple[float, ...]] = {}
    for text in regions:
        match = re.fullmatch(r"(\d+):([^,]+),([^,]+),([^,]+),([^,]+)", text)
        try:
            if match is None:
                raise ValueError
            index, box = int(match.group(1)), tuple(float(number) for number in match.groups()[1:])
        except ValueError:
            raise ValueError(f"--region must be I:X0,Y0,X1,Y1, such as 1:0,0,0.5,1; got {text!r}") from None
        if not 1 <= index <= len(subjects):
            raise ValueError(
                f"--region {text}: there is no subject {index}; subjects are counted from 1 to {len(subjects)}"
            )
        if index in boxes:
            raise ValueError(f"--region {text}: subject {index} has a region already")
        boxes[index] = box
    found: list[SubjectFiles] = []
    for index, text in enumerate(subjects, start=1):
        image, mask = split_mask(text)
        name = _free_name(image.stem, [other.name for other in found])
        settings: dict[str, Any] = {"region": boxes[index]} if index in boxes else {}
        found.append(SubjectFiles(image=image, mask=mask, name=name, settings=settings))
    return tuple(found)


def split_mask(text: str) -> tuple[Path, Path | None]:
    """`PATH` or `PATH:MASK` as paths; a colon inside a name ("C:\\fox.png") is none between names.

    Raises:
        FileNotFoundError: the picture or the mask does not exist.
    """
    if Path(text).is_file():
        return Path(text), None
    for colon in reversed([match.start() for match in re.finditer(":", text)]):
        image, mask = Path(text[:colon]), Path(text[colon + 1 :])
        if image.is_file():
            if not mask.is_file():
                raise FileNotFoundError(f"--subject {text}: there is no mask {str(mask)!r}")
            return image, mask
    raise FileNotFoundError(f"--subject {text}: no such file")


def parse_size(text: str | None) -> tuple[int, int] | tuple[None, None]:
    """`512` or `640x512` (width first) as (width, height).

    Raises:
        ValueError: anything else.
    """
    if text is None:
        return None, None
    match = re.fullmatch(r"(\d+)(?:[x×](\d+))?", text.strip().lower())
    if match is None or not int(match.group(1)) or match.group(2) == "0":
        raise ValueError(f"--size must be a number of pixels or WIDTHxHEIGHT, got {text!r}")
    return int(match.group(1)), int(match.group(2) or match.group(1))


def _free_name(name: str, taken: Sequence[str | None]) -> str:
    """The name, or with a number behind it if another subject has it."""
    candidates = [name, *(f"{name} {number}" for number in range(2, len(taken) + 2))]
    return next(candidate for candidate in candidates if candidate not in taken)
