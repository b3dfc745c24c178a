"""`anystory eval BENCHMARK` and `anystory eval compare`: the field's benchmarks, and two runs against each other."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anystory.cli.flags.model import ModelFlags
from anystory.cli.flags.outputs import check_out_file, check_out_folder
from anystory.cli.flags.picture import Steps, parse_size
from anystory.cli.flags.spread import spread
from anystory.cli.terminal.announce import announce
from anystory.cli.terminal.bar import counting_bar
from anystory.cli.terminal.libraries import quiet_libraries
from anystory.engine.limits import MOST_PICTURES, MOST_SEED, MOST_WORKERS, check_seeds

if TYPE_CHECKING:
    from anystory.evaluation.benchmarks.run import BenchmarkRun

__all__ = ["compare", "dreambench", "dreambench_multi", "ms_bench", "multibanana", "parse_part", "vistorybench"]

Data = Annotated[Path, typer.Option(help="The benchmark's folder, as it is published (docs/benchmarks.md).")]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="Folder of the run: pictures, records, scores.json, report.html.")
]


@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """How a benchmark is drawn."""

    per_prompt: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Pictures of each prompt; by default the benchmark's number.")
    ] = None
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED, help="Seed of each prompt's first picture; the others follow.")
    ] = 0
    steps: Steps = None
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; by default the model's.")] = None
    size: Annotated[str | None, typer.Option(metavar="N|WxH", help="Size in pixels; by default the model's.")] = None
    segmenter: Annotated[str, typer.Option(help="What cuts the subjects out of the references.")] = "auto"
    layout: Annotated[
        bool, typer.Option("--layout", help="Hold subjects to the benchmark's boxes, where it has some (MS-Bench).")
    ] = False
    limit: Annotated[
        int | None, typer.Option(min=1, max=MOST_PICTURES, help="Only so many prompts, evenly spread over all.")
    ] = None
    jobs: Annotated[
        int,
        typer.Option(min=1, max=MOST_WORKERS, help="Processes that draw, each with one thread and a model of its own."),
    ] = 1
    part: Annotated[
        str | None,
        typer.Option(
            metavar="K/N",
            help="Draw only part K of N, such as 1/4, without scores: machines can share a folder. Afterwards run"
            " without it.",
        ),
    ] = None
    sheet: Annotated[bool, typer.Option("--sheet/--no-sheet", help="Draw the sheets of routing maps.")] = False


@dataclass(frozen=True, kw_only=True)
class CompareFlags:
    """What pictures are compared with."""

    clip: Annotated[str, typer.Option(help="CLIP: a folder or hub id, or none.")] = "openai/clip-vit-base-patch32"
    dino: Annotated[str, typer.Option(help="DINO ViT-S/16: a folder or hub id, or none.")] = "facebook/dino-vits16"
    dinov2: Annotated[str, typer.Option(help="DINOv2, such as facebook/dinov2-base: a folder or hub id, or none.")] = (
        "none"
    )
    detector: Annotated[
        str,
        typer.Option(
            help="A zero-shot detector, such as IDEA-Research/grounding-dino-tiny, that finds the subjects in drawn"
            " pictures; none takes the routing masks."
        ),
    ] = "none"
    cut: Annotated[
        str, typer.Option(help="A segmenter that cuts subjects out inside their routing masks; none takes the masks.")
    ] = "none"


@spread
def dreambench(data: Data, out: Out, model: ModelFlags, run: RunFlags, compared: CompareFlags) -> None:
    """DreamBench: 30 subjects, 25 prompts each. DINO, CLIP-I and CLIP-T as DreamBooth's paper has them.

    --data is the folder of google/dreambooth. A run that was interrupted resumes: nothing is drawn twice.
    """
    _run("dreambench", data, out, model, run, compared)


@spread
def dreambench_multi(data: Data, out: Out, model: ModelFlags, run: RunFlags, compared: CompareFlags) -> None:
    """DreamBench with two subjects: UNO's 30 pairs, 25 prompts each.

    --data is the folder `datasets` of bytedance/UNO, or a list in its form.
    """
    _run("dreambench-multi", data, out, model, run, compared)


@spread
def ms_bench(data: Data, out: Out, model: ModelFlags, run: RunFlags, compared: CompareFlags) -> None:
    """MS-Bench: 1148 combinations of two and three subjects. M-DINO is the product over subjects.

    --data is the repository MS-Diffusion/MS-Diffusion.
    """
    _run("ms-bench", data, out, model, run, compared)


@spread
def multibanana(data: Data, out: Out, model: ModelFlags, run: RunFlags, compared: CompareFlags) -> None:
    """MultiBanana: up to eight references. OUT/official has the pictures as its own judge reads them.

    --data is the data set kohsei/MultiBanana-Benchmark.
    """
    _run("multibanana", data, out, model, run, compared)


@spread
def vistorybench(
    data: Data,
    out: Out,
    model: ModelFlags,
    run: RunFlags,
    compared: CompareFlags,
    lite: Annotated[bool, typer.Option("--lite", help="Only the 20 stories of ViStoryBench-Lite.")] = False,
    language: Annotated[str, typer.Option(help="Language of the prompts: en or ch.")] = "en",
) -> None:
    """ViStoryBench: 80 stories. Characters across shots (CIDS), copied references, number of characters (OCCM).

    --data is the data set ViStoryBench/ViStoryBench. OUT/official has the pictures as its own programs read them.
    """
    _run("vistorybench", data, out, model, run, compared, lite=lite, language=language)


def _run(
    name: str, data: Path, out: Path, model: ModelFlags, flags: RunFlags, compared: CompareFlags, **reading: object
) -> None:
    check_out_folder(out)
    part = parse_part(flags.part)
    options = model.options()
    announce(f"reading {data}")
    from anystory.evaluation.benchmarks.registry import BENCHMARKS

    benchmark = BENCHMARKS[name]
    cases = partial(benchmark.read, **reading)(data)
    quiet_libraries(options.threads or 0)
    from anystory.evaluation.benchmarks.drawing import DrawSettings
    from anystory.evaluation.benchmarks.encoders import EncoderChoice
    from anystory.evaluation.benchmarks.run import BenchmarkRun

    width, height = parse_size(flags.size)
    per_prompt = flags.per_prompt or benchmark.per_prompt
    check_seeds(flags.seed, per_prompt)
    settings = DrawSettings(
        seed=flags.seed,
        per_prompt=per_prompt,
        steps=flags.steps,
        guidance=flags.guidance,
        width=width,
        height=height,
        segmenter=flags.segmenter,
        layout=flags.layout,
    )
    encoders = EncoderChoice(**{one: None if name == "none" else name for one, name in vars(compared).items()})
    run = BenchmarkRun(
        benchmark=benchmark,
        cases=cases,
        out=out,
        options=options,
        settings=settings,
        encoders=encoders,
        jobs=flags.jobs,
        part=part,
        limit=flags.limit,
        sheet=flags.sheet,
    )
    _run_with_bars(run)


def _run_with_bars(run: BenchmarkRun) -> None:
    from anystory.evaluation.benchmarks.report.numbers import number_text
    from anystory.evaluation.benchmarks.report.page import REPORT
    from anystory.evaluation.benchmarks.run import run_benchmark

    count = min(len(run.cases), run.limit or len(run.cases)) * run.settings.per_prompt
    most = max(len(case.subjects) for case in run.cases)
    announce(f"{run.benchmark.title}: {count} pictures, of up to {most} subjects")
    with counting_bar("drawing", count) as draw, counting_bar("looking", count) as look:
        scores = run_benchmark(run, drawn=lambda done, _: draw(done), seen=lambda done, _: look(done))
    if scores is None:
        print(f"{run.out}: part {run.part[0]} of {run.part[1]} is drawn; run without --part for the scores")
        return
    total = scores.total()
    for measure in scores.measures:
        print(f"{measure}: {number_text(total[measure])}")
    print(f"{run.out / REPORT}")


def parse_part(text: str | None) -> tuple[int, int]:
    """`K/N` as (K, N); None as (1, 1), which is all.

    Raises:
        ValueError: anything else.
    """
    if text is None:
        return 1, 1
    match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text.strip())
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count or count < 2:
        raise ValueError(f"--part must be K/N with 1 ≤ K ≤ N and N ≥ 2, such as 1/4, got {text!r}")
    return number, count


def compare(
    a: Annotated[Path, typer.Argument(help="Folder of a run, or its scores.json.", metavar="A")],
    b: Annotated[Path, typer.Argument(help="The same of another.", metavar="B")],
    group: Annotated[str | None, typer.Option(help="Only this group of the benchmark; by default all.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the table to this file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Compare two runs of one benchmark, on the pictures that both have.

    The interval of a difference resamples the same subjects, pairs or stories in both runs.
    """
    check_out_file(json_path, "--json", overwrite=overwrite)
    from rich.console import Console
    from rich.table import Table

    from anystory.evaluation.benchmarks.compare import compare_runs, paired
    from anystory.evaluation.benchmarks.report.numbers import number_text
    from anystory.evaluation.benchmarks.results import read_scores
    from anystory.files import atomic_write

    runs = read_scores(a), read_scores(b)
    found = compare_runs(*runs, group=group)
    table = Table(title=f"{runs[0].benchmark}: {len(paired(*runs))} pictures in both", title_justify="left")
    for heading in ("", "A", "B", "B - A", ""):
        table.add_column(heading)
    for one in found:
        table.add_row(one.measure, number_text(one.a), number_text(one.b), number_text(one.difference), one.verdict)
    Console().print(table)
    if json_path is not None:
        with atomic_write(json_path, overwrite=overwrite) as temporary:
            data = {"a": str(a), "b": str(b), "group": group, "measures": [one.to_dict() for one in found]}
            temporary.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
