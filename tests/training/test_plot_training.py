"""The script that draws a run's curves knows every stage."""

from __future__ import annotations

import runpy
from pathlib import Path

from anystory.training.recipe import STAGES

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "plot_training.py"


def test_each_stage_has_a_panel_of_something_it_logs() -> None:
    assert set(runpy.run_path(str(SCRIPT))["SHOWN"]) == set(STAGES)
