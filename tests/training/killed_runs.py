"""A program that trains a tiny stage again and again, kills it, and goes on: `python killed_runs.py FOLDER`.

Torch is imported once; every run is a forked child. Scenarios end in FOLDER/NAME, next to FOLDER/unbroken and
FOLDER/unbroken-two, which nothing disturbed. What was done is printed as JSON.
"""

from __future__ import annotations

import copy
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parents[1]))

import matplotlib.figure
import torch
import torch.utils.tensorboard

from anystory.training.launch.options import RunOptions
from anystory.training.launch.runner import run_stages
from anystory.training.launch.stopping import Terminated
from anystory.training.recipe import Recipe
from anystory.training.stages.vae import AutoencoderStage
from anystory.training.state import checkpoint
from training.conftest import STEP_BY_STEP, TINY
from training.together import free_port

ONCE = (matplotlib.figure, torch.utils.tensorboard, AutoencoderStage)
"""Imported here, so that no child has to."""

FINISHED, TERMINATED, FAILED = 0, 3, 4
STEPS = 12


def recipe() -> Recipe:
    """The tiny recipe; the stage `vae` writes a checkpoint after every step and validates now and then."""
    values = copy.deepcopy(TINY)
    values["stages"]["vae"] |= STEP_BY_STEP | {"steps": STEPS, "validate_every": 5, "sample_every": 6}
    return Recipe.model_validate(values)


def child(out: Path, before: Callable[[], None], environment: dict[str, str]) -> int:
    """Fork a process that trains in `out`, going on where it is; returns its id."""
    process = os.fork()
    if process == 0:
        _train(out, before, environment)
    return process


def _train(out: Path, before: Callable[[], None], environment: dict[str, str]) -> NoReturn:
    code = FAILED
    try:
        os.environ.update(environment)
        torch.set_num_threads(1)
        before()
        options = RunOptions(out=out, model=out / "model", workers=0, quiet=True, resume=True)
        run_stages(("vae",), recipe(), options, {})
        code = FINISHED
    except Terminated:
        code = TERMINATED
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def kill_at(number: int, late: bool) -> Callable[[], None]:
    """A preparation of a child that kills it at its `number`-th file operation: before or after it, or half done."""

    def prepare() -> None:
        left = number

        def deadly(real: Callable[..., Any], half: bool = False) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0 and not late:
                    os.kill(os.getpid(), signal.SIGKILL)
                result = real(*arguments, **named)
                if left == 0:
                    if half:
                        path = Path(arguments[1])
                        os.truncate(path, path.stat().st_size // 2)
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            return call

        os.rename, os.replace = deadly(os.rename), deadly(os.replace)
        checkpoint.save_file = deadly(checkpoint.save_file, half=True)

    return prepare


def nothing() -> None:
    """No preparation."""


def run(out: Path, before: Callable[[], None] = nothing, seconds: float | None = None) -> int:
    """Train in one process, killed after `seconds` if it still runs; returns its code, negative for a signal."""
    process = child(out, before, {})
    if seconds is not None:
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def run_two(out: Path, *, steps: int | None = None, number: int = signal.SIGKILL, victims: tuple[int, ...] = ()) -> int:
    """Train in two processes under gloo; those named as victims get a signal once `steps` are logged.

    Returns how both ended, or after SIGKILL, when whoever is left is killed too, how the victims did.
    """
    shared = {"ACCELERATE_USE_CPU": "true", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    processes = [child(out, nothing, shared | {"RANK": str(r), "LOCAL_RANK": str(r)}) for r in range(2)]
    if victims:
        log = out / "vae" / "log.jsonl"
        while not (log.is_file() and log.read_text().count("\n") >= (steps or 0)):
            time.sleep(0.01)
        for victim in victims:
            os.kill(processes[victim], number)
        if number == signal.SIGKILL:
            time.sleep(0.1)
            for process in processes:
                os.kill(process, signal.SIGKILL)
    codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
    told = {codes[victim] for victim in victims} if number == signal.SIGKILL and victims else set(codes)
    return told.pop() if len(told) == 1 else FAILED


def main(folder: Path) -> None:
    """Run all scenarios."""
    torch.set_num_threads(1)
    done: dict[str, list[int]] = {"unbroken": [run(folder / "unbroken")]}
    # 1 cuts the log, 2 to 4 write tensors, 5 renames the new checkpoint, 6 an old one that goes, 7 tells the best.
    points = [
        kill_at(number, late) for number in range(1, 9) for late in ((True,) if 2 <= number <= 4 else (False, True))
    ]
    done["points"] = [run(folder / "points", point) for point in points] + [run(folder / "points")]
    delays = random.Random(0)
    done["moments"] = [run(folder / "moments", seconds=delays.uniform(0.05, 0.6)) for _ in range(5)]
    done["moments"].append(run(folder / "moments"))
    done["unbroken-two"] = [run_two(folder / "unbroken-two")]
    two = folder / "two"
    done["two"] = [
        run_two(two, steps=2, victims=(0, 1)),
        run_two(two, steps=4, victims=(1,)),
        run_two(two, steps=6, victims=(1,), number=signal.SIGTERM),
        run_two(two, steps=8, victims=(0, 1), number=signal.SIGTERM),
        run_two(two),
    ]
    print(json.dumps(done))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
