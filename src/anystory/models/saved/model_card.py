"""The README.md of a saved adapter: what it is, what it fits, how to use it."""

from __future__ import annotations

from collections.abc import Mapping

from anystory.models.configs import AdapterConfig

__all__ = ["model_card"]

_PARTS = {
    "reference_net": "ReferenceNet, the U-Net without cross-attention",
    "subject_qformer": "subject QFormer",
    "routing_qformer": "routing QFormer",
    "coupled_routing": "routing from the subject's tokens",
    "routers": "routers, one per cross-attention",
    "cross_projections": "Ŵ: keys and values of the subject's tokens",
    "reference_projections": "W̃: keys and values of the reference",
}
"""{name of an adapter's module: what it is}."""


def model_card(
    *, sizes: AdapterConfig, fits: str, parameters: Mapping[str, int], calls: Mapping[str, int | float], origin: str
) -> str:
    """Markdown with the hub's metadata in front.

    Args:
        sizes: The adapter's.
        fits: The attention layers of the U-Nets that it fits.
        parameters: {module: number of parameters}.
        calls: Its own values for arguments of a pipeline's call.
        origin: A paragraph on where its weights come from, and under which terms.
    """
    rows = [f"| {_PARTS[name]} (`{name}`) | {count:,} |" for name, count in parameters.items() if count]
    return "\n".join(
        [
            "---",
            "library_name: anystory",
            "tags: [text-to-image, personalization, anystory, diffusers]",
            "---",
            "",
            "# AnyStory adapter",
            "",
            "Encoders, router and projections that put your own subjects into the pictures of a base model"
            " (AnyStory, arXiv 2501.09503). The base model is not in here.",
            "",
            "```python",
            "from anystory import AnyStoryPipeline, Subject",
            "",
            'pipe = AnyStoryPipeline.from_pretrained("BASE MODEL", adapter="THIS FOLDER")',
            'pipe("a fox on a beach", subjects=[Subject("fox.png")]).images[0]',
            "```",
            "",
            "## Where the weights come from",
            "",
            origin,
            "",
            "## What it fits",
            "",
            f"- U-Nets with {fits}; any other is refused.",
            f"- Image encoders that give {sizes.clip_tokens} tokens of width {sizes.clip_dim}.",
            f"- References are read at {sizes.reference_size} × {sizes.reference_size} pixels and become"
            f" {sizes.subject_tokens} tokens of width {sizes.token_dim}.",
            *_calls(calls),
            "",
            "## Parameters",
            "",
            "| part | parameters |",
            "|---|---|",
            *rows,
            f"| all | {sum(parameters.values()):,} |",
            "",
            "`anystory models info FOLDER` prints this; `anystory models verify FOLDER` checks the files.",
            "",
        ]
    )


def _calls(defaults: Mapping[str, int | float]) -> list[str]:
    if not defaults:
        return []
    said = ", ".join(f"`{name}={value}`" for name, value in defaults.items())
    return [f"- Pictures with subjects take {said}, unless the call or the base model says otherwise."]
