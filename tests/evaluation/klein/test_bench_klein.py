"""Operations of FLUX.2 klein: against formulas, and never more than the stock pipeline's."""

from __future__ import annotations

import pytest

from anystory.evaluation.bench.klein.flops import KleinFlopReport, KleinSizes, count_klein_flops

TINY = KleinSizes(name="tiny", heads=2, head_dim=16, doubles=1, singles=2, text_width=24, text_tokens=8, channels=16)
SIDE, REFERENCE, SUBJECTS = 64, 32, 2
TEXT, PIXELS, PHOTO = 8, 16, 4


@pytest.fixture(scope="module")
def report() -> KleinFlopReport:
    return count_klein_flops(sizes=TINY, subjects=[0, 1, SUBJECTS], references=[REFERENCE], side=SIDE)


def attended(pairs: int) -> int:
    """FLOPs of all layers' attention over so many pairs of row and key."""
    return 4 * pairs * 32 * 3


def test_attention_is_what_the_rules_say(report: KleinFlopReport) -> None:
    """All else is the same for each method; half of the pixels are each subject's."""
    found = {row.method: row.flops for row in report.rows if row.subjects == SUBJECTS}
    everything = (TEXT + PIXELS + SUBJECTS * PHOTO) ** 2
    alone = SUBJECTS * PHOTO**2
    rows = TEXT + PIXELS
    isolated = rows * (rows + SUBJECTS * PHOTO) + alone
    regions = TEXT * (rows + SUBJECTS * PHOTO) + PIXELS * (rows + PHOTO) + alone
    strict = TEXT * TEXT + PIXELS * (TEXT + PIXELS // 2 + PHOTO) + alone
    assert found["stock"] - found["isolated"] == attended(everything - isolated)
    assert found["stock"] - found["regions"] == attended(everything - regions)
    assert found["stock"] - found["strict"] == attended(everything - strict)


def test_it_is_never_more_than_the_stock_pipeline(report: KleinFlopReport) -> None:
    assert len(report.bars) == 2 * 3
    assert all(bar.met for bar in report.bars)
    assert all(row.over_stock < 0 for row in report.rows if row.method != "stock")
    assert [row.over_alone > 0 for row in report.rows] == [True] * 8


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="`subjects` must be numbers of at least 0"):
        count_klein_flops(sizes=TINY, subjects=[-1])
    with pytest.raises(ValueError, match="must be multiples of 16"):
        count_klein_flops(sizes=TINY, references=[40])
