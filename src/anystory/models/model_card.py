"""The README.md of a saved adapter: what it is, what it fits, how to use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anystory.models.families import describe_layout

if TYPE_CHECKING:
    from anystory.models.adapter import SubjectAdapter

__all__ = ["model_card"]

_PARTS = {
    "reference_net": "ReferenceNet, the U-Net without cross-attention",
    "subject_qformer": "subject QFormer",
    "routing_qformer": "routing QFormer",
    "routers": "routers, one per cross-attention",
    "cross_projections": "Ŵ: keys and values of the subject's tokens",
    "reference_projections": "W̃: keys and values of the reference",
}
"""{name of an adapter's module: what it is}."""


def model_card(adapter: SubjectAdapter, origin: str) -> str:
    """Markdown with the hub's metadata in front.

    Args:
        adapter: The adapter.
        origin: A paragraph on where its weights come from, and under which terms.
    """
    sizes = adapter.sizes
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in adapter.named_children()}
    rows = [f"| {_PARTS[name]} (`{name}`) | {count:,} |" for name, count in counts.items()]
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
            f"- U-Nets with {describe_layout(adapter.layers)}; any other is refused.",
            f"- Image encoders that give {sizes.clip_tokens} tokens of width {sizes.clip_dim}.",
            f"- References are read at {sizes.reference_size} × {sizes.reference_size} pixels and become"
            f" {sizes.subject_tokens} tokens of width {sizes.token_dim}.",
            "",
            "## Parameters",
            "",
            "| part | parameters |",
            "|---|---|",
            *rows,
            f"| all | {sum(counts.values()):,} |",
            "",
            "`anystory models info FOLDER` prints this; `anystory models verify FOLDER` checks the files.",
            "",
        ]
    )
