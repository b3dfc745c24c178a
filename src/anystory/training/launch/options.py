"""What a run was asked to do, and how much of it is done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anystory.training.data.prerender_settings import Prerender
from anystory.training.launch.devices import Precision
from anystory.training.model.exports import exported_steps
from anystory.training.recipe import StageConfig, StageName
from anystory.training.state.checkpoint import read_progress
from anystory.training.state.checkpoints import find_checkpoint
from anystory.training.state.train_state import Progress


@dataclass(frozen=True)
class RunOptions:
    """Where, how and how long a run trains."""

    out: Path
    """Run folder; the stage writes below `out / stage.name`."""
    model: Path
    """Model folder that receives the exported weights."""
    resume: bool = False
    minutes: float | None = None
    """Overrides the recipe's budget of this stage, in minutes of training over all runs."""
    steps: int | None = None
    workers: int = 1
    seed: int = 0
    precision: Precision = "fp32"
    compile: bool | None = None
    """Compile the heavy blocks; None is on a GPU only."""
    channels_last: bool | None = None
    """Keep convolutions' weights channels-last in memory; None is on a GPU only."""
    prerender: Prerender | None = None
    """Draw this many samples into memory first and train on them in epochs; None draws each when it is needed."""
    quiet: bool = False


@dataclass(frozen=True)
class Budget:
    """How long a stage is trained, over all runs: until the first of the two is spent."""

    minutes: float | None
    steps: int | None

    @classmethod
    def of(cls, name: StageName, config: StageConfig, options: RunOptions) -> Budget:
        """What the options say, else the recipe.

        Raises:
            ValueError: neither says anything.
        """
        minutes = options.minutes if options.minutes is not None else (None if options.steps else config.minutes)
        steps = options.steps if options.steps is not None else config.steps
        if minutes is None and steps is None:
            raise ValueError(f"stage {name!r} has no budget: set minutes or steps in the recipe or on the command line")
        return cls(minutes, steps)

    def spent(self, progress: Progress) -> float:
        """The spent part, in [0, 1]. Steps make it exact in a resumed run; minutes follow the clock."""
        by_steps = progress.step / self.steps if self.steps else 0.0
        by_time = progress.seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(by_steps, by_time))


def finished_at(name: StageName, config: StageConfig, options: RunOptions) -> Progress | None:
    """Where a stage ended whose budget is spent and whose weights are in the model folder; else None."""
    found = find_checkpoint(options.out / name)
    if found is None:
        return None
    try:
        progress = read_progress(found)
    except ValueError:  # damaged: `Checkpoints.newest` sets it aside
        return None
    done = Budget.of(name, config, options).spent(progress) >= 1
    return progress if done and exported_steps(options.model).get(name) == progress.step else None
