"""`anystory generate`: pictures of your subjects from a prompt."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from anystory.cli.drawing import Job, PhotoFiles, SubjectFiles, draw_job
from anystory.cli.model_options import ModelOptions, parse_loras
from anystory.cli.session import Session
from anystory.cli.source import load_source

__all__ = ["generate"]


def generate(
    prompt: Annotated[str, typer.Argument(help='What to draw: "a fox and a robot on a beach".')],
    subject: Annotated[
        list[str] | None,
        typer.Option(
            "--subject",
            "-s",
            metavar="PATH[:MASK][+…]",
            help="A subject's picture and its mask; more photos of the same subject after a +. Repeat it.",
        ),
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(
            metavar="I:X0,Y0,X1,Y1", help="Subject I (from 1) goes into this box, in fractions of the picture."
        ),
    ] = None,
    scale: Annotated[
        list[str] | None,
        typer.Option(metavar="I:VALUE", help="How strongly subject I is itself; 1 by default, 0 not at all."),
    ] = None,
    reference_scale: Annotated[
        list[str] | None,
        typer.Option(metavar="I:VALUE", help="How closely subject I's details are followed; 1 by default."),
    ] = None,
    image: Annotated[
        Path | None, typer.Option("--image", "-i", help="A picture to draw over; its shape, at most the model's size.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="White where --image is to be drawn anew; all else stays as it is.")
    ] = None,
    strength: Annotated[
        float | None, typer.Option(min=0, max=1, help="How much of --image to change; 0.8, with a mask 1, by default.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="Of the first picture; by default a new one.")
    ] = None,
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="Pictures to draw, with seeds one after another.")] = 1,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps; by default the model's.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; by default the model's.")] = None,
    negative: Annotated[str | None, typer.Option(help="What not to draw.")] = None,
    size: Annotated[str | None, typer.Option(metavar="N|WxH", help="Size in pixels; by default the model's.")] = None,
    model: Annotated[
        str, typer.Option(help="An embedded model (mini), a folder, a hub id, or one .safetensors file of SDXL's kind.")
    ] = "mini",
    adapter: Annotated[str | None, typer.Option(help="An adapter that is not the model's own: folder or id.")] = None,
    config: Annotated[
        str | None,
        typer.Option(help="For a single file: folder or id with the configuration files, if the hub is away."),
    ] = None,
    image_encoder: Annotated[
        str | None, typer.Option(help="Folder or id; by default the model's, the adapter's, or CLIP ViT-H/14.")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="Variant of the model's weights: fp16.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="A diffusers scheduler, such as UniPCMultistepScheduler; by default the model's.")
    ] = None,
    karras: Annotated[
        bool | None, typer.Option("--karras/--no-karras", help="Karras' noise levels; by default the scheduler's.")
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH[:SCALE]", help="A LoRA on the model, .safetensors; 1 by default. Repeat it."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    offload: Annotated[
        str, typer.Option(help="For little GPU memory: none, model (one at a time there), or sequential (one layer).")
    ] = "none",
    tiling: Annotated[
        bool | None, typer.Option("--tiling/--no-tiling", help="VAE in tiles; by default when offloading.")
    ] = None,
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
        subjects=parse_subjects(subject or [], region or [], scale or [], reference_scale or []),
        image=image,
        mask=mask,
        strength=strength,
        negative_prompt=negative,
        steps=steps,
        guidance=guidance,
        width=width,
        height=height,
    )
    check_pictures(job)  # a bad picture is told before a large model is loaded
    session = Session(
        ModelOptions(
            model=model,
            adapter=adapter,
            config=config,
            image_encoder=image_encoder,
            variant=variant,
            scheduler=scheduler,
            karras=karras,
            loras=parse_loras(lora or []),
            device=device,
            dtype=dtype,
            offload=offload,
            tiling=tiling,
            threads=threads,
        )
    )
    for line in session.unknown_words(f"{prompt} {negative or ''}"):
        print(f"warning: {line}", file=sys.stderr)
    first = secrets.randbelow(2**31) if seed is None else seed
    drawn = draw_job(session, job, range(first, first + num), out, sheet=sheet)
    for one in drawn:
        print(f"{one.picture} (seed {one.record.seed})" + (f", routing maps: {one.sheet}" if one.sheet else ""))


def check_pictures(job: Job) -> None:
    """Read everything that a job is given.

    Raises:
        ValueError: a picture or mask that cannot be used; a mask or a strength without a picture.
        FileNotFoundError: no such file.
    """
    for given in job.subjects:
        for photo in given.subject().photos:
            photo.prepare(64)
    if job.image is not None:
        load_source(job.image, job.mask)
    elif job.mask is not None or job.strength is not None:
        raise ValueError("--mask and --strength are about --image, and there is none")


def parse_subjects(
    subjects: Sequence[str],
    regions: Sequence[str],
    scales: Sequence[str] = (),
    reference_scales: Sequence[str] = (),
) -> tuple[SubjectFiles, ...]:
    """The values of --subject, --region, --scale and --reference-scale as subjects, named after their files.

    Raises:
        ValueError: a setting that cannot be read, or for a subject that does not exist or has one already.
        FileNotFoundError: no such picture or mask.
    """
    count = len(subjects)
    settings = {
        "region": _by_subject("--region", regions, count, 4, "I:X0,Y0,X1,Y1, such as 1:0,0,0.5,1"),
        "scale": _by_subject("--scale", scales, count, 1, "I:VALUE, such as 1:0.8"),
        "reference_scale": _by_subject("--reference-scale", reference_scales, count, 1, "I:VALUE, such as 1:0.8"),
    }
    found: list[SubjectFiles] = []
    for index, text in enumerate(subjects, start=1):
        first, *more = split_photos(text)
        name = _free_name(first.image.stem, [other.name for other in found])
        own = {field: values[index] for field, values in settings.items() if index in values}
        found.append(SubjectFiles(image=first.image, mask=first.mask, more=tuple(more), name=name, settings=own))
    return tuple(found)


def _by_subject(option: str, texts: Sequence[str], count: int, numbers: int, form: str) -> dict[int, Any]:
    """`I:…` with so many numbers, each once per subject: {I: number or tuple of numbers}."""
    found: dict[int, Any] = {}
    for text in texts:
        index, _, rest = text.partition(":")
        try:
            values = tuple(float(number) for number in rest.split(","))
            if not index.isdecimal() or len(values) != numbers:
                raise ValueError
        except ValueError:
            raise ValueError(f"{option} must be {form}; got {text!r}") from None
        if not 1 <= int(index) <= count:
            raise ValueError(f"{option} {text}: there is no subject {index}; subjects are counted from 1 to {count}")
        if int(index) in found:
            raise ValueError(f"{option} {text}: subject {index} has a {option.removeprefix('--')} already")
        found[int(index)] = values if numbers > 1 else values[0]
    return found


def split_photos(text: str) -> list[PhotoFiles]:
    """`PATH[:MASK]`, or several of these with a + between them; a + inside a name is none between names.

    Raises:
        FileNotFoundError: a picture or a mask does not exist.
    """
    try:
        return [split_mask(text)]
    except FileNotFoundError:
        for plus in (match.start() for match in re.finditer(r"\+", text)):
            try:
                first = split_mask(text[:plus])
            except FileNotFoundError:
                continue
            return [first, *split_photos(text[plus + 1 :])]
        raise


def split_mask(text: str) -> PhotoFiles:
    """`PATH` or `PATH:MASK` as paths; a colon inside a name ("C:\\fox.png") is none between names.

    Raises:
        FileNotFoundError: the picture or the mask does not exist.
    """
    if Path(text).is_file():
        return PhotoFiles(Path(text))
    for colon in reversed([match.start() for match in re.finditer(":", text)]):
        image, mask = Path(text[:colon]), Path(text[colon + 1 :])
        if image.is_file():
            if not mask.is_file():
                raise FileNotFoundError(f"--subject {text}: there is no mask {str(mask)!r}")
            return PhotoFiles(image, mask)
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
