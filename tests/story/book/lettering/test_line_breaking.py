"""Text to lines."""

from __future__ import annotations

import itertools

import pytest

from anystory.story.book.lettering.line_breaking import break_lines, pieces, plain


def lines(text: str, limit: float, language: str = "en", *, balanced: bool = True) -> list[str] | None:
    """Lines of a typeface whose letters are all one em wide."""
    found = break_lines(pieces(plain(text), language, len), limit, 1.0, 1.0, balanced=balanced)
    assert found is None or all(width == len(line) for line, width in found)
    return None if found is None else [line for line, _ in found]


def test_the_fewest_lines_and_among_them_the_most_even() -> None:
    """Against all ways to put the words onto lines."""
    words = ["it", "was", "the", "best", "of", "times", "it", "was", "the", "worst"]
    limit = 13
    ways = []
    for cuts in itertools.product([False, True], repeat=len(words) - 1):
        rows = [[words[0]]]
        for word, cut in zip(words[1:], cuts, strict=True):
            if cut:
                rows.append([word])
            else:
                rows[-1].append(word)
        texts = [" ".join(row) for row in rows]
        if max(map(len, texts)) <= limit:
            ways.append((len(texts), sum((1 - len(text) / limit) ** 2 for text in texts), texts))
    assert lines(" ".join(words), limit, "zxx") == min(ways)[2]


def test_words_that_are_too_long_are_hyphenated() -> None:
    found = lines("Die Donaudampfschifffahrtsgesellschaft feiert", 16, "de")
    assert found is not None
    assert found == ["Die Donaudampf-", "schifffahrtsge-", "sellschaft", "feiert"] or len(found) == 4
    assert "".join(line.removesuffix("-") for line in found).replace(" ", "") == (
        "DieDonaudampfschifffahrtsgesellschaftfeiert"
    )
    assert all(len(line) <= 16 for line in found)


def test_no_language_no_hyphens_but_the_authors_own() -> None:
    assert lines("Donaudampfschifffahrt", 16, "zxx") is None
    assert lines("Donau\u00addampf\u00adschiff", 8, "zxx") == ["Donau-", "dampf-", "schiff"]
    assert lines("Donau\u00addampf", 12, "zxx") == ["Donaudampf"]


def test_names_with_apostrophes_and_short_words_stay_whole() -> None:
    assert lines("don’t table", 5, "en") == ["don’t", "table"]


def test_the_authors_line_ends_stay() -> None:
    assert lines("one  two\n\n three", 40) == ["one two", "three"]


def test_cjk_breaks_anywhere_but_before_closing_marks() -> None:
    found = lines("「これは、何ですか」とフォックスが言った。", 5, "ja")
    assert found is not None
    assert "".join(found) == "「これは、何ですか」とフォックスが言った。"
    assert not any(line[0] in "」、。ッ" or line[-1] == "「" for line in found)


@pytest.mark.parametrize("text", ["a well-known – and rather long — sentence", "« Bonjour ! » dit-il", "3,5 € or 4%"])
@pytest.mark.parametrize("limit", [13, 17, 30])
def test_nothing_is_lost(text: str, limit: float) -> None:
    found = lines(text, limit, "zxx")
    assert found is not None
    assert "".join(found).replace(" ", "") == text.replace(" ", "")


def test_a_caption_may_end_with_a_short_line() -> None:
    text = "aaa bbb ccc ddd ee"
    assert lines(text, 15, "zxx", balanced=False) == ["aaa bbb ccc ddd", "ee"]
    assert lines(text, 15, "zxx") == ["aaa bbb", "ccc ddd ee"] or lines(text, 15, "zxx") == ["aaa bbb ccc", "ddd ee"]
