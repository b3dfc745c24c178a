"""`anystory eval BENCHMARK` and `eval compare`, from a folder to a page, with a tiny model and tiny encoders."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from anystory.cli import app
from anystory.cli.eval_benchmarks import parse_part
from anystory.evaluation.benchmarks import run as running
from evaluation.benchmarks import folders
from evaluation.metrics.encoder_files import write_clip, write_detector, write_dino, write_dinov2


@dataclass(frozen=True)
class Bench:
    """What the command line is given."""

    model: Path
    encoders: tuple[str, ...]

    def run(self, name: str, data: Path, out: Path, *more: str) -> Result:
        given = ["eval", name, "--data", str(data), "--out", str(out), "--model", str(self.model)]
        return CliRunner().invoke(app, [*given, *self.encoders, "--threads", "1", *more])


@pytest.fixture(scope="module")
def bench(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    root = tmp_path_factory.mktemp("encoders")
    clip, dino = write_clip(root / "clip"), write_dino(root / "dino")
    return Bench(model, ("--clip", str(clip), "--dino", str(dino), "--segmenter", "border"))


def pictures(out: Path) -> dict[str, int]:
    """Each picture, and when it was written."""
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.glob("pictures/*/*/0001.png")}


def scores(out: Path) -> dict[str, dict[str, float]]:
    return json.loads((out / "scores.json").read_text())["total"]


def test_dreambench_from_a_folder_to_a_page(bench: Bench, tmp_path: Path, monkeypatch):
    data, out = folders.dreambooth(tmp_path / "data"), tmp_path / "out"
    monkeypatch.setattr(running, "write_report", _killed)
    killed = bench.run("dreambench", data, out, "--per-prompt", "2", "--limit", "1")
    assert killed.exit_code != 0
    monkeypatch.undo()
    before = pictures(out)
    assert len(before) == 2
    (out / ".drawing-left").mkdir()

    done = bench.run("dreambench", data, out, "--per-prompt", "2", "--limit", "2")
    assert done.exit_code == 0, done.output
    after = pictures(out)
    assert len(after) == 4
    assert before.items() <= after.items(), "nothing is drawn twice"
    assert not (out / ".drawing-left").exists()
    total = scores(out)
    wanted = {"DINO", "CLIP-I", "CLIP-T", "M-DINO", "diversity", "missing"}
    assert wanted <= set(total)
    assert re.search(r"^DINO: -?\d\.\d{3} \[-?\d\.\d{3}, -?\d\.\d{3}\]$", done.stdout, re.MULTILINE)
    written = json.loads((out / "scores.json").read_text())
    assert set(written["by_subject"]) == {"dog6", "vase"}
    assert set(written["by_group"]) == {"live", "object"}
    assert written["pictures"][0]["prompt"] == "a dog in the snow"
    assert written["weights"], "the hashes of the model's files"
    assert any("does not know" in note for note in written["notes"])
    page = (out / "report.html").read_text()
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page), "it loads nothing"
    assert page.count("<figure>") >= 2 * 3 * 2
    assert "Best by DINO" in page

    # Scores again: nothing is drawn, and pictures are looked at only if the encoders differ.
    looks = {path: path.stat().st_mtime_ns for path in out.glob("pictures/*/*/look.npz")}
    limit = ("--per-prompt", "2", "--limit", "2")
    again = bench.run("dreambench", data, out, *limit, "--dinov2", str(write_dinov2(tmp_path / "dinov2")))
    assert again.exit_code == 0, again.output
    assert pictures(out) == after
    assert scores(out)["DINO"] == total["DINO"]
    assert "DINOv2" in scores(out)
    assert all(path.stat().st_mtime_ns > then for path, then in looks.items())

    # Another model or other settings are another run.
    refused = bench.run("dreambench", data, out, "--per-prompt", "2", "--steps", "2")
    assert refused.exit_code == 2
    assert "holds another run (it differs in settings.steps): name another --out" in refused.stderr

    same = CliRunner().invoke(app, ["eval", "compare", str(out), str(out), "--json", str(tmp_path / "table.json")])
    assert same.exit_code == 0, same.output
    table = json.loads((tmp_path / "table.json").read_text())
    assert {one["verdict"] for one in table["measures"]} == {"no difference shown"}
    assert "4 pictures in both" in same.stdout


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_pairs_in_parts(bench: Bench, tmp_path: Path):
    data, out = folders.pair_list(tmp_path / "data"), tmp_path / "out"
    first = bench.run("dreambench-multi", data, out, "--part", "1/2")
    assert first.exit_code == 0, first.output
    assert len(pictures(out)) == 2
    assert "run without --part" in first.stdout
    assert bench.run("dreambench-multi", data, out, "--part", "2/2").exit_code == 0
    drawn = pictures(out)
    assert len(drawn) == 3
    done = bench.run("dreambench-multi", data, out, "--cut", "border")
    assert done.exit_code == 0, done.output
    assert pictures(out) == drawn
    assert scores(out)["DINO"]["trials"] == 6
    assert scores(out)["M-DINO"]["trials"] == 3


def test_ms_bench_with_its_layout(bench: Bench, tmp_path: Path):
    out = tmp_path / "out"
    done = bench.run("ms-bench", folders.ms_bench(tmp_path / "data"), out, "--layout", "--limit", "2", "--dino", "none")
    assert done.exit_code == 0, done.output
    records = [json.loads(path.read_text()) for path in sorted(out.glob("pictures/*/*/0001.json"))]
    assert all(one["region"] for record in records for one in record["subjects"])
    assert "DINO" not in scores(out)
    assert "CLIP-I" in scores(out)


@pytest.mark.parametrize(("name", "write"), [("multibanana", folders.multibanana), ("vistorybench", folders.vistory)])
def test_pictures_lie_where_the_benchmarks_programs_look(bench: Bench, tmp_path: Path, name: str, write):
    out = tmp_path / "out"
    done = bench.run(name, write(tmp_path / "data"), out)
    assert done.exit_code == 0, done.output
    official = {path.relative_to(out / "official").as_posix() for path in out.glob("official/**/*.png")}
    if name == "multibanana":
        assert official == {"2_objects/006_generated.png", "3_back/014_generated.png"}
        return
    shots = ("01/shot_01", "01/shot_02", "01/shot_03", "79/shot_01", "79/shot_02")
    assert official == {f"shots/{one}.png" for one in shots}
    assert {"CIDS cross", "CIDS self", "CLIP-T"} <= set(scores(out))
    drawn = pictures(out)
    done = bench.run(name, tmp_path / "data", out, "--detector", str(write_detector(tmp_path / "detector")))
    assert done.exit_code == 0, done.output
    assert pictures(out) == drawn
    assert 0 < scores(out)["OCCM"]["value"] <= 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--part", "3/2"], "--part must be K/N"),
        (["--clip", "none", "--dino", "none"], "there is nothing to compare pictures with"),
        (["--clip", "none", "--detector", "x"], "--detector needs --clip"),
        (["--dino", "{data}"], "DINO model"),
        (["--size", "big"], "--size must be"),
        (["--segmenter", "grabcuts"], "grabcuts"),
        (["--out", "{file}"], "is a file"),
        (["--model", "{empty}"], "model"),
    ],
)
def test_mistakes_are_told_before_anything_is_drawn(bench: Bench, tmp_path: Path, arguments: list[str], said: str):
    data = folders.pair_list(tmp_path / "data")
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    given = [one.format(data=data, file=tmp_path / "file", empty=tmp_path / "empty") for one in arguments]
    result = bench.run("dreambench-multi", data, tmp_path / "out", *given)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert not pictures(tmp_path / "out")


def test_a_reference_without_a_subject_is_named(bench: Bench, tmp_path: Path):
    data = folders.pair_list(tmp_path / "data")
    blank = data / "dreambooth" / "dataset" / "cat" / "04.jpg"
    Image.new("RGB", (48, 48), "white").save(blank)
    result = bench.run("dreambench-multi", data, tmp_path / "out")
    assert result.exit_code == 2
    assert "04.jpg" in result.stderr
    assert "--segmenter" in result.stderr


def test_runs_that_cannot_be_compared(tmp_path: Path):
    (tmp_path / "a").mkdir()
    result = CliRunner().invoke(app, ["eval", "compare", str(tmp_path / "a"), str(tmp_path / "a")])
    assert result.exit_code == 2
    assert "scores.json" in result.stderr


def test_parts_are_numbered_from_one():
    assert parse_part(None) == (1, 1)
    assert parse_part("2/4") == (2, 4)
    for text in ("0/4", "5/4", "1/1", "1", "a/b"):
        with pytest.raises(ValueError, match="must be K/N"):
            parse_part(text)
