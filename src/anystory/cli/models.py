"""`anystory models`: what is here, what it is, and whether it is whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from anystory.cli.terminal.libraries import clean_stdout, quiet_libraries

if TYPE_CHECKING:
    from anystory.engine.backends.description import Description

app = typer.Typer(help="List, describe, verify and find models.", no_args_is_help=True, add_completion=False)

Name = Annotated[str, typer.Argument(help="Embedded model, folder, .safetensors file, or downloaded hub id.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(name="list")
def list_models(as_json: Json = False) -> None:
    """List the embedded models and what the hub's cache holds for AnyStory."""
    with clean_stdout():
        rows = _all_models()
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(f"{row['name']}  ({row['where']}, {row['kind']}, {_size(int(row['bytes']))})\n    {row['fits']}")
    if not any(row["where"] == "cached" for row in rows):
        print("The hub's cache holds no base model, adapter or IP-Adapter-Plus.")


def _all_models() -> list[dict[str, str | int]]:
    """A row for each model that is here; one that cannot be read says so and does not hide the others."""
    from anystory.engine.inventory.describe import cached_models, describe
    from anystory.pipelines.loading.assets import embedded_models

    rows: list[dict[str, str | int]] = []
    for place, names in (("embedded", embedded_models()), ("cached", cached_models())):
        for name in names:
            row: dict[str, str | int] = {"name": name, "where": place}
            try:
                found = describe(name)
                row |= {"kind": found.kind, "bytes": found.bytes, "fits": found.fits}
            except (ValueError, OSError) as error:
                row |= {"kind": "unreadable", "bytes": 0, "fits": str(error)}
            rows.append(row)
    return rows


@app.command()
def info(name: Name, as_json: Json = False) -> None:
    """Show what a model is: sizes, parameters of each part, layout, and which base or adapter it fits."""
    with clean_stdout():
        from anystory.engine.inventory.describe import describe

        found = describe(name)
    print(json.dumps(found.to_dict(), indent=2) if as_json else _text(found))


@app.command()
def verify(name: Name, as_json: Json = False) -> None:
    """Read every weight: hashes, shapes, finite values. Ends with exit code 1 if anything is wrong."""
    quiet_libraries()
    with clean_stdout():
        from anystory.engine.inventory.verify import verify as check

        result = check(name)
    if as_json:
        files = [vars(file) for file in result.files]
        shown = {"path": str(result.path), "whole": result.whole, "problems": result.problems}
        print(json.dumps(shown | {"shapes_checked": result.shapes_checked, "files": files}, indent=2))
    else:
        for file in result.files:
            compared = f"as in {file.compared_with}" if file.compared_with else "nothing to compare with"
            print(f"{file.sha256[:16]}  {file.file}  ({compared})")
        print(f"shapes compared: {', '.join(result.shapes_checked) or 'none (no part whose shapes we know)'}")
        for problem in result.problems:
            print(f"WRONG  {problem}")
        print("whole" if result.whole else f"{len(result.problems)} thing(s) wrong in {result.path}")
    if not result.whole:
        raise typer.Exit(1)


@app.command()
def get(
    name: Annotated[
        str, typer.Argument(help="u2netp, u2net, u2net_human_seg, silueta, isnet-general-use, isnet-anime.")
    ],
    as_json: Json = False,
) -> None:
    """Show where a segmenter's file is published and where it belongs. Nothing is downloaded."""
    with clean_stdout():
        from anystory.subjects.onnx_models import ONNX_MODELS, is_published, model_folder

    model = ONNX_MODELS.get(name)
    if model is None:
        raise ValueError(
            f"nothing is known of {name!r}. Known are {', '.join(ONNX_MODELS)}; a segmentation model of the hub is "
            "named by its id, --segmenter OWNER/NAME"
        )
    path = model_folder() / model.file
    whole = is_published(path.read_bytes(), model) if path.is_file() else None
    if as_json:
        found = {"name": name, "finds": model.finds, "url": model.url, "bytes": model.bytes, "md5": model.md5}
        print(json.dumps(found | {"path": str(path), "there": whole is not None, "whole": whole}, indent=2))
        return
    state = {None: "it is not there yet", True: "it is there, and whole", False: "ANOTHER FILE is there: get this one"}
    print(f"{name}: finds {model.finds}")
    print(f"published  {model.url}")
    print(f"size       {model.bytes:,} bytes ({_size(model.bytes)}), MD5 {model.md5}")
    print(f"belongs    {path}")
    print(f"now        {state[whole]}")
    print(f"used       anystory cutout photo.jpg --segmenter {name}")


def _text(found: Description) -> str:
    lines = [f"{found.source}: {found.kind}", f"path      {found.path}"]
    if found.layout:
        lines.append(f"layout    {found.layout}")
    if found.fits:
        lines.append(f"fits      {found.fits}")
    if found.backend:
        lines.append(f"backend   {found.backend}")
    if found.variants:
        lines.append(f"variants  {', '.join(found.variants)}")
    if found.sizes:
        lines.append(
            "sizes     " + ", ".join(f"{name} {value}" for name, value in found.sizes.items() if value is not None)
        )
    width = max((len(part.name) for part in found.parts), default=0)
    lines += ["", f"{'part':<{width}}  {'parameters':>13}  {'size':>9}  type"]
    lines += [
        f"{part.name:<{width}}  {part.parameters:>13,}  {_size(part.bytes):>9}  {part.dtypes}"
        + (f"  {part.class_name}" if part.class_name else "")
        for part in found.parts
    ]
    lines.append(f"{'all':<{width}}  {found.parameters:>13,}  {_size(found.bytes):>9}")
    return "\n".join(lines)


def _size(count: int) -> str:
    """Bytes in units of 1024: `44.1 MiB`."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB"]
    while value >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"
