"""A worker in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

SLEEPY = """
import os, time
from pathlib import Path
from anystory.data.build.steps.pair import PairOptions

class Sleepy:
    name, version, Options = "sleepy", 1, PairOptions

    def __init__(self, options):
        self.options = options

    def __call__(self, candidate):
        Path("pid.part").write_text(str(os.getpid()))
        os.rename("pid.part", "pid")
        time.sleep(60)
        return [candidate]
"""

PARENT = """
import sys
from pathlib import Path
from anystory.data.build.plan import default_plan, with_settings
from anystory.data.build.local import item_pool

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    plan = with_settings({**default_plan("subjects"), "steps": ["sleepy:Sleepy"]}, [])
    with item_pool(plan, folder, 1) as pool:
        pool.submit(next(iter(plan.make_source(folder).items())))
        pool.wait()
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at /proc")
def test_a_process_ends_in_the_middle_of_its_item_when_its_parent_is_killed(photos, tmp_path):
    (tmp_path / "sleepy.py").write_text(SLEEPY)
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen([sys.executable, "parent.py", str(photos)], cwd=tmp_path)
    try:
        assert within(60, (tmp_path / "pid").exists), "it has begun"
    finally:
        parent.kill()
        parent.wait()
    child = Path("/proc", (tmp_path / "pid").read_text())
    assert within(10, lambda: not child.exists() or "\nState:\tZ" in (child / "status").read_text())


def within(seconds: float, condition) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
