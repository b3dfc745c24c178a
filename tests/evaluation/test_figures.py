"""The paper's figures on a tiny model: every picture has the table behind it, and the table is the rows' own."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from anystory.cli import app
from anystory.evaluation.figures.bench import Bench
from anystory.evaluation.figures.figure import Figure
from anystory.evaluation.figures.names import FIGURES, parse_figures
from anystory.evaluation.figures.table_1 import ORIGINAL, PRUNED, SIMPLIFIED, table_1
from pipelines import helpers


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    helpers.pipeline("mini", default_call={"num_inference_steps": 2, "guidance_scale": 4.0}).save_pretrained(folder)
    return folder


def figures(model: Path, out: Path, *more: object):
    given = ["figures", "--model", model, "--out", out, "--n", 8, "--threads", 1, *more]
    return CliRunner().invoke(app, [str(one) for one in given])


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def value(rows: list[dict[str, str]], **where: str) -> float:
    (found,) = [row for row in rows if where.items() <= row.items()]
    return float(found["value"])


def test_all_figures_and_their_tables(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = figures(model, out)
    assert result.exit_code == 0, result.output
    for name in FIGURES:
        assert Image.open(out / f"{name}.png").width > 300
        assert len(table(out / f"{name}.csv")) > 1
        assert f"{name}.png" in (out / "index.md").read_text()

    rows = {path.stem: json.loads(path.read_text())["scores"] for path in (out / "rows").glob("*.json")}
    hits, trials = np.sum([score["identity"] for score in rows["clip-only"]], axis=0)
    shown = value(table(out / "figure2.csv"), row="CLIP only", measure="identity")
    assert shown == pytest.approx(hits / trials, abs=1e-4)
    several = [score["leak"] for score in rows["no-router"] if "leak" in score]
    hits, trials = np.sum(several, axis=0)
    shown = value(table(out / "figure3.csv"), row="without router", measure="leak, several")
    assert shown == pytest.approx(hits / trials, abs=1e-4)

    shares: dict[tuple[str, str], float] = {}
    for row in table(out / "figure4.csv"):
        shares[row["layer"], row["step"]] = shares.get((row["layer"], row["step"]), 0) + float(row["share of pixels"])
    assert len(shares) > 2
    assert all(share == pytest.approx(1, abs=1e-3) for share in shares.values()), "each pixel has one owner"

    over = {(row["map"], row["over"]) for row in table(out / "figure5.csv")}
    assert over == {(kind, axis) for kind in ("coarse", "refined") for axis in ("time", "depth")}
    panels = table(out / "figure6.csv")
    assert {row["panel"] for row in panels} == {str(i) for i in range(1, 9)}
    assert {row["row"] for row in panels} == {"with subjects", "prompt alone"}

    # What is there is not replaced, and rows are read, not drawn: a changed score shows in the figure.
    refused = figures(model, out, "--only", "figure2")
    assert refused.exit_code == 2
    assert "figure2.png or .csv is there" in refused.stderr
    kept = out / "rows" / "full.json"
    changed = json.loads(kept.read_text())
    changed["scores"] = [score | {"identity": [1.0, 1.0]} for score in changed["scores"]]
    kept.write_text(json.dumps(changed))
    assert figures(model, out, "--only", "figure2", "--overwrite").exit_code == 0
    assert value(table(out / "figure2.csv"), row="both", measure="identity") == 1
    refused = figures(model, out, "--only", "figure2", "--overwrite", "--steps", 1)
    assert refused.exit_code == 2
    assert "row of another model, judge or settings" in refused.stderr


def test_table_1_counts_less_with_every_simplification(model: Path, tmp_path: Path) -> None:
    found = table_1(Bench(model=str(model), number=8, level="level1", seed=0, steps=None, folder=tmp_path))
    for name in {str(row["model"]) for row in found.rows}:
        own = {row["ReferenceNet"]: row for row in found.rows if row["model"] == name}
        for column in ("parameters", "FLOPs"):
            assert own[ORIGINAL][column] > own[SIMPLIFIED][column] > own[PRUNED][column]  # pyright: ignore[reportOperatorIssue]
    sdxl = next(row for row in found.rows if row["model"] == "SDXL" and row["ReferenceNet"] == ORIGINAL)
    assert sdxl["parameters"] == 2_567_463_684, "SDXL's U-Net"


def test_a_figure_replaces_nothing_unasked(tmp_path: Path) -> None:
    figure = Figure(name="a", title="A", says="", image=Image.new("RGB", (4, 4)), rows=[{"x": 1}])
    figure.keep(tmp_path, overwrite=False)
    (tmp_path / "a.csv").write_text("mine")
    with pytest.raises(FileExistsError):
        figure.keep(tmp_path, overwrite=False)
    assert (tmp_path / "a.csv").read_text() == "mine"


def test_names() -> None:
    assert parse_figures(None) == list(FIGURES)
    assert parse_figures("figure5, table1") == ["table1", "figure5"]
    with pytest.raises(ValueError, match="no figure figure9: choose from table1"):
        parse_figures("figure9")
