"""Errors that say which option they are about, so that every face can name it as its users know it."""

from __future__ import annotations

from anystory.files import without_surrogates

__all__ = ["OptionError", "check_text"]


class OptionError(ValueError):
    """A value that cannot be.

    Args:
        option: The field of `ModelOptions` or `Job`, such as "prediction_type".
        problem: What is wrong, to be read after the option's name: "must be …, got …".
    """

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(f"{option} {problem}")
        self.option = option
        self.problem = problem


def check_text(option: str, text: str | None) -> None:
    """Raise OptionError for a text with bytes that are no UTF-8."""
    if text is not None and text != without_surrogates(text):
        raise OptionError(option, f"holds bytes that are no UTF-8: {text!r}; type it again, or rename the file")
