"""Train one chain of the plan, on sets that `draw.py` draws meanwhile.

python scripts/gpu/train.py PLAN CHAIN RECIPE WORK SETS SECONDS [SCALE]

WORK/CHAIN/model holds the weights to begin with, if there are any, and receives what is trained; WORK/CHAIN/LABEL has a
step's log and pictures. The chain ends SECONDS after its start; SCALE multiplies the plan's seconds.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from plan import LAST, PLANS, Step

from anystory.training.data.batches import encode_ahead
from anystory.training.data.memory import SampleMemory, memory_batches
from anystory.training.data.stream import Sample
from anystory.training.launch.options import RunOptions
from anystory.training.launch.runner import build_stage
from anystory.training.model.components import ModelFolder
from anystory.training.recipe import Recipe, StageConfig, load_recipe
from anystory.training.stages.stage import Stage
from anystory.training.trainer import train

SET_UP = 12.0
"""Seconds that a step takes besides training: moving its samples, validation, pictures, writing."""
PATIENCE = 60.0
"""Seconds that `main` waits for the other chain at its end."""


class Sets:
    """The sample sets, one of them at a time on the device.

    Args:
        folder: where they are drawn.
        shared: those that the other chain wants, too.
    """

    def __init__(self, folder: Path, shared: set[str]) -> None:
        self.folder, self.shared = folder, shared
        self.name, self.memory = "", SampleMemory({}, 0)

    def on_device(self, name: str, device: torch.device, say: Callable[[str], None]) -> SampleMemory:
        """A set, as soon as it is drawn. It stays where it is for the next step that wants it."""
        if name == self.name:
            return self.memory
        self.memory = SampleMemory({}, 0)
        began = time.monotonic()
        while (memory := SampleMemory.open(self.folder / name)) is None:
            time.sleep(0.1)
        waited = time.monotonic() - began
        if memory.move_to(device) and name not in self.shared:
            shutil.rmtree(self.folder / name)  # main memory is short of room for all sets at once
        moved = time.monotonic() - began - waited
        say(f"{name}: {memory.count} samples, waited {waited:.0f} s, moved in {moved:.0f} s")
        self.name, self.memory = name, memory
        return memory


class Chain:
    """Steps one after the other on one copy of the model.

    Args:
        chains: of the plan.
        name: of this one.
        recipe: of the model.
        work: folder of all chains.
        sets: where samples are drawn.
        seconds: when to end.
        scale: of the plan's seconds.
    """

    def __init__(
        self,
        chains: Mapping[str, Sequence[Step]],
        name: str,
        recipe: Recipe,
        work: Path,
        sets: Path,
        seconds: float,
        scale: float,
    ) -> None:
        self.steps, self.recipe, self.scale = chains[name], recipe, scale
        (other,) = chains.keys() - {name}
        self.own, self.other = work / name, work / other
        self.sets = Sets(sets, shared={step.samples for step in chains[other]})
        self.began, self.seconds = time.monotonic(), seconds
        self.is_main = name == "main"

    def say(self, line: str) -> None:
        """Print a line with the time since the start."""
        print(f"[{time.monotonic() - self.began:6.1f}] {line}", flush=True)

    def run(self) -> None:
        """Train all steps; `main` takes the other chain's last part at its end."""
        for number, step in enumerate(self.steps):
            if step.after is not None:
                self.take(step.after, step.takes)
            seconds = self.budget(number)
            self.say(f"{step.name}: {seconds:.0f} s")
            self.train(step, seconds)
            (self.own / f"{step.name}.done").touch()
        if self.is_main:
            self.take(*LAST, patience=PATIENCE)

    def budget(self, number: int) -> float:
        """Seconds that a step trains."""
        step, later = self.steps[number], self.steps[number:]
        if step.seconds is not None:
            return step.seconds * self.scale
        left = self.seconds - (time.monotonic() - self.began) - SET_UP * self.scale * len(later)
        return max(5 * self.scale, left * step.weight / sum(one.weight for one in later))

    def take(self, label: str, parts: tuple[str, ...], patience: float = float("inf")) -> None:
        """Wait until the other chain has trained a step, then copy parts of its model into this one's."""
        began = time.monotonic()
        while not (self.other / f"{label}.done").exists() and time.monotonic() - began < patience:
            time.sleep(0.1)
        for part in parts:
            shutil.rmtree(self.own / "model" / part, ignore_errors=True)
            shutil.copytree(self.other / "model" / part, self.own / "model" / part)

    def train(self, step: Step, seconds: float) -> None:
        """Train a step."""
        recipe = with_changes(self.recipe, step)

        def open_batches(
            stage: Stage, config: StageConfig, options: RunOptions, accelerator: Accelerator, position: int
        ) -> Iterator[Sample]:
            memory = self.sets.on_device(step.samples, accelerator.device, self.say)
            if set(stage.encoders_ahead()) & set(memory.columns):
                encode_ahead(stage, memory, options, accelerator.device)
            return memory_batches(memory, start=position, batch_size=config.batch_size, seed=len(step.name))

        # Compiling would cost more than it gains in a minute or two.
        options = RunOptions(
            out=self.own / step.name,
            model=self.own / "model",
            minutes=seconds / 60,
            precision="auto",
            compile=False,
        )
        stage = build_stage(step.stage, ModelFolder(options.model, recipe))  # pyright: ignore[reportArgumentType]
        done = train(stage, recipe.stages[stage.name], options, batches=open_batches)
        speed = f"{done.step / done.seconds:.1f} steps/s, {done.samples / done.seconds:.0f} samples/s"
        self.say(f"{step.name}: {done.step} steps, {done.samples} samples, {speed}")


def with_changes(recipe: Recipe, step: Step) -> Recipe:
    """The recipe as this step wants it."""
    config = recipe.stages[step.stage]  # pyright: ignore[reportArgumentType]
    config = config.model_copy(update={**step.config, "options": {**config.options, **step.options}})
    return recipe.model_copy(update={"stages": {**recipe.stages, step.stage: config}})


if __name__ == "__main__":
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    plan, chain, recipe, work, sets, seconds, *scale = sys.argv[1:]
    Chain(
        PLANS[plan],
        chain,
        load_recipe(recipe),
        Path(work),
        Path(sets),
        seconds=float(seconds),
        scale=float(scale[0]) if scale else 1.0,
    ).run()
