"""What is drawn and trained in a quarter of an hour of a GPU, and for how long: made for an H200 with 16 cores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SampleSet:
    """Samples that all cores draw while the GPU is busy with others."""

    stage: str
    """Whose samples they are."""
    samples: int
    seconds: float
    """When to stop, whatever is there."""
    chunk: int
    """Samples that a process draws at a time."""


@dataclass(frozen=True)
class Step:
    """A stage that trains once."""

    stage: str
    samples: str
    """Name of the set."""
    seconds: float | None = None
    weight: float = 1.0
    """Without `seconds`: its part of what is left, as this weight to those of all later steps."""
    label: str = ""
    """Folder of its log, if the stage trains twice."""
    after: str | None = None
    """Label of the other chain's step to wait for."""
    takes: tuple[str, ...] = ()
    """Parts of the other chain's model that replace this one's before it begins."""
    config: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    """What differs from the recipe."""

    @property
    def name(self) -> str:
        """What it is called in logs."""
        return self.label or self.stage


SETS = {
    "pictures": SampleSet("vae", 50_000, 25, 64),
    "pairs": SampleSet("clip", 60_000, 30, 32),
    "scenes": SampleSet("base", 320_000, 75, 64),
    "groups": SampleSet("encoder", 110_000, 150, 16),
}
"""In the order in which they are drawn: 2, 6, 20 and 47 GiB at 128 pixels."""

AGAIN = {"learning_rate": 2.0e-3, "decay_fraction": 0.5}
"""A second, shorter turn of a stage."""

CONTRASTIVE = ("image_encoder", "feature_extractor", "text_encoder_2", "tokenizer_2")
"""What stage `clip` makes."""

WHOLE = {
    "main": (
        Step("vae", "pictures", 55),
        Step("base", "scenes", weight=155, after="clip", takes=CONTRASTIVE),
        Step("encoder", "groups", weight=190),
        Step("router", "groups", weight=85),
        Step("encoder", "groups", weight=65, label="encoder-2", config=AGAIN, options={"router_share": 0.5}),
        Step("router", "groups", weight=55, label="router-2", config=AGAIN),
    ),
    "side": (
        Step("clip", "pairs", 55),
        Step("decoder", "pictures", 110, after="vae", takes=("vae",)),
    ),
}
"""All stages, from nothing or from weights."""

MORE = {
    "main": (
        Step("base", "scenes", weight=270),
        Step("encoder", "groups", weight=200),
        Step("router", "groups", weight=80),
        Step("encoder", "groups", weight=70, label="encoder-2", config=AGAIN, options={"router_share": 0.5}),
        Step("router", "groups", weight=60, label="router-2", config=AGAIN),
    ),
    "side": (Step("decoder", "pictures", 240),),
}
"""On weights whose latents and contrastive encoders are to stay."""

PLANS = {"whole": WHOLE, "more": MORE}
"""Of each the chains: two processes on one GPU, each with its own copy of the model. At the end `main` takes `side`'s
decoder."""
LAST = ("decoder", ("vae",))
"""What `main` waits for at its end, and takes."""
