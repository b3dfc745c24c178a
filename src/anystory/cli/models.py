"""`anystory models`: what is here, what it is, and whether it is whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from anystory.pipelines.inventory import Description

app = typer.Typer(help="List, describe and verify models.", no_args_is_help=True, add_completion=False)

Name = Annotated[str, typer.Argument(help="Embedded model, folder, .safetensors file, or downloaded hub id.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(name="list")
def list_models(as_json: Json = False) -> None:
    """List the embedded models and what the hub's cache holds for AnyStory."""
    from anystory.pipelines.assets import embedded_models
    from anystory.pipelines.inventory import cached_models, describe

    rows: list[dict[str, str | int]] = []
    for place, names in (("embedded", embedded_models()), ("cached", cached_models())):
        for name in names:
            row: dict[str, str | int] = {"name": name, "where": place}
            try:
                found = describe(name)
                row |= {"kind": found.kind, "bytes": found.bytes, "fits": found.fits}
            except (ValueError, OSError) as error:  # a broken model must not hide the others
                row |= {"kind": "unreadable", "bytes": 0, "fits": str(error)}
            rows.append(row)
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(f"{row['name']}  ({row['where']}, {row['kind']}, {_size(int(row['bytes']))})\n    {row['fits']}")
    if not any(row["where"] == "cached" for row in rows):
        print("The hub's cache holds no base model, adapter or IP-Adapter-Plus.")


@app.command()
def info(name: Name, as_json: Json = False) -> None:
    """Say what a model is: sizes, parameters of each part, layout, and which base or adapter it fits."""
    from anystory.pipelines.inventory import describe

    found = describe(name)
    print(json.dumps(found.to_dict(), indent=2) if as_json else _text(found))


@app.command()
def verify(name: Name, as_json: Json = False) -> None:
    """Read every weight: hashes, shapes, finite values. Ends with exit code 1 if anything is wrong."""
    from anystory.cli.drawing import quiet_libraries

    quiet_libraries()
    from anystory.pipelines.verify import verify as check

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


def _text(found: Description) -> str:
    lines = [f"{found.source}: {found.kind}", f"path      {found.path}"]
    if found.layout:
        lines.append(f"layout    {found.layout}")
    if found.fits:
        lines.append(f"fits      {found.fits}")
    if found.variants:
        lines.append(f"variants  {', '.join(found.variants)}")
    if found.sizes:
        lines.append("sizes     " + ", ".join(f"{name} {value}" for name, value in found.sizes.items()))
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
