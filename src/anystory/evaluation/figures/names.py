"""The figures' names; importing them loads nothing."""

FIGURES = {
    "table1": "cost of ReferenceNet",
    "figure2": "CLIP tokens, ReferenceNet, both",
    "figure3": "with and without router",
    "figure4": "maps by layer and time",
    "figure5": "coarse and refined routing",
    "figure6": "stories",
}


def parse_figures(text: str | None) -> list[str]:
    """`"figure2,table1"` in the order of the paper; None is all.

    Raises:
        ValueError: an unknown name.
    """
    if text is None:
        return list(FIGURES)
    names = {name.strip() for name in text.split(",")}
    if unknown := names - FIGURES.keys():
        raise ValueError(f"--only: no figure {', '.join(sorted(unknown))}: choose from {', '.join(FIGURES)}")
    return [name for name in FIGURES if name in names]
