"""The benchmarks by name: how each is read, and what its own protocol reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anystory.evaluation.benchmarks.cases import BenchmarkCase
from anystory.evaluation.benchmarks.readers.dreambench import read_dreambench
from anystory.evaluation.benchmarks.readers.ms_bench import read_ms_bench
from anystory.evaluation.benchmarks.readers.multibanana import read_multibanana
from anystory.evaluation.benchmarks.readers.pair_list import read_pair_list
from anystory.evaluation.benchmarks.readers.vistorybench import read_vistorybench

__all__ = ["BENCHMARKS", "Benchmark"]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A benchmark, and its protocol."""

    name: str
    title: str
    read: Callable[[Path], list[BenchmarkCase]]
    per_prompt: int
    """Pictures of each prompt; picture i has the seed `--seed` + i."""
    reports: tuple[str, ...]
    """The measures that its own papers report, in their order; the first one picks the best and the worst."""
    source: str
    """Where the protocol stands."""
    by_story: bool = False
    """Whether values are means over characters, then over stories (ViStoryBench)."""


BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            name="dreambench",
            title="DreamBench",
            read=read_dreambench,
            per_prompt=4,
            reports=("DINO", "CLIP-I", "CLIP-T"),
            source="DreamBooth (Ruiz et al., CVPR 2023), section 4.1: 30 subjects, 25 prompts, 4 pictures",
        ),
        Benchmark(
            name="dreambench-multi",
            title="DreamBench with two subjects",
            read=read_pair_list,
            per_prompt=1,
            reports=("DINO", "CLIP-I", "CLIP-T"),
            source="UNO (Wu et al., arXiv 2504.02160): 30 pairs, 25 prompts; one picture, as its inference.py draws",
        ),
        Benchmark(
            name="ms-bench",
            title="MS-Bench",
            read=read_ms_bench,
            per_prompt=1,
            reports=("M-DINO", "DINO", "CLIP-I", "CLIP-T"),
            source="MS-Diffusion (Wang et al., arXiv 2406.07209): 1148 combinations, 4488 prompts",
        ),
        Benchmark(
            name="multibanana",
            title="MultiBanana",
            read=read_multibanana,
            per_prompt=1,
            reports=("DINO", "CLIP-I", "CLIP-T"),
            source="MultiBanana (Oshima et al., arXiv 2511.22989); its own score is a language model's",
        ),
        Benchmark(
            name="vistorybench",
            title="ViStoryBench",
            read=read_vistorybench,
            per_prompt=1,
            reports=("CIDS cross", "CIDS self", "copy-paste", "OCCM"),
            source="ViStoryBench (Zhuang et al., arXiv 2505.24862), as at commit 514cc31f",
            by_story=True,
        ),
    )
}
