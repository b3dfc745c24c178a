"""The README.md of a saved adapter for FLUX.1."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["flux_model_card"]

_PARTS = {
    "appearance": "Redux embedder of the appearance tokens (81 a subject)",
    "routing": "Redux embedder of the routing tokens (9 a subject)",
    "reference_terms": "low-rank terms of the references' stream",
    "routing_terms": "low-rank terms of the routing tokens' stream",
    "map_terms": "low-rank terms of the routing maps",
}


def flux_model_card(*, parameters: Mapping[str, int], reference_size: int, origin: str) -> str:
    """Markdown with the hub's metadata in front.

    Args:
        parameters: Of each part.
        reference_size: Side of a reference, pixels.
        origin: A paragraph on where the weights come from, and under which terms.
    """
    rows = "\n".join(f"| {_PARTS[name]} (`{name}`) | {count:,} |" for name, count in parameters.items())
    return f"""---
library_name: anystory
tags: [text-to-image, personalization, anystory, diffusers, flux]
---

# AnyStory adapter for FLUX.1

It puts your own subjects into the pictures of FLUX.1 (AnyStory, arXiv 2501.09503). The base model is not in here.

```python
from anystory import Subject
from anystory.pipelines.flux import AnyStoryFluxPipeline

pipe = AnyStoryFluxPipeline.from_pretrained("black-forest-labs/FLUX.1-dev", adapter="THIS FOLDER")
pipe("a fox on a beach", subjects=[Subject("fox.png")]).images[0]
```

## Where the weights come from

{origin}

## What it needs

- FLUX.1-dev or a fine-tune of it; SigLIP of FLUX.1-Redux (`image_encoder`). References are read at {reference_size} ×
  {reference_size} pixels.
- FLUX.1-dev and FLUX.1-Redux are published under the FLUX.1 [dev] Non-Commercial License, which binds what is made from
  their weights.

## Parameters

| part | parameters |
|---|---|
{rows}
| all | {sum(parameters.values()):,} |
"""
