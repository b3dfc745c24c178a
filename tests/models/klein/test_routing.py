"""Owners by attention: shares against a softmax, background, balance, and bad numbers."""

from __future__ import annotations

import pytest
import torch

from anystory.models.klein.gathering import Gathered, Gathering
from anystory.models.klein.reading import ReferencePart, SampleReads
from anystory.models.klein.routing import AttentionRouting, block_names, decide_owners
from pipelines.klein.tiny import build_transformer

GRID = (3, 4)
OPEN = torch.ones(12, dtype=torch.bool)


def test_shares_of_attention_are_those_of_the_softmax() -> None:
    parts = tuple(
        ReferencePart(length=2, subject=subject, bias=bias) for subject, bias in ((0, 0.0), (1, 0.0), (1, 0.0))
    )
    parts += (ReferencePart(length=2, subject=None, bias=-torch.inf),)
    reads = SampleReads(text=3, pixels=12, references=parts)
    draws = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, reads.tokens, 2, 8, generator=draws) for _ in range(2))
    gathering = Gathering(layers=frozenset({"a"}), words=[[[1], []]])
    gathering.begin([reads], 1)
    assert not gathering.wants("a")  # the negative prompt's call
    gathering.begin([reads], 0)
    assert gathering.wants("a")
    assert not gathering.wants("b")
    with torch.no_grad():
        gathering.gather(query, key)
        gathering.gather(query, key * 2)
    [found] = gathering.result()
    expected = torch.zeros(12, 21)
    for keys in (key, key * 2):
        scores = torch.einsum("shd,khd->hsk", query[0, 3:15], keys[0, :21]) / 8**0.5
        expected += scores.softmax(dim=-1).mean(dim=0) / 2
    torch.testing.assert_close(found.photos[0], expected[:, 15:17].sum(dim=1))
    torch.testing.assert_close(found.photos[1], expected[:, 17:21].sum(dim=1))
    torch.testing.assert_close(found.words[0], expected[:, 1])
    assert not found.words[1].any()


def gathered(*maps: list[float]) -> Gathered:
    photos = torch.tensor(maps)
    return Gathered(photos=photos, words=torch.zeros_like(photos))


def test_the_larger_map_owns_and_what_nobody_wants_is_background() -> None:
    left = [0.9, 0.8, 0.0, 0.0] * 3
    right = [0.0, 0.0, 0.01, 0.1] * 3  # weaker on the whole, which does not count
    how = AttentionRouting(smooth=1, threshold=0.3)
    decided = decide_owners(gathered(left, right), GRID, how, open_pixels=OPEN)
    assert decided.owners.tolist() == [0, 0, 2, 1] * 3
    torch.testing.assert_close(decided.scores.sum(dim=0), torch.ones(12))
    closed = OPEN.clone()
    closed[0] = False
    assert decide_owners(gathered(left, right), GRID, how, open_pixels=closed).owners[0] == 2


def test_words_move_owners() -> None:
    flat = torch.full((2, 12), 0.5)
    words = torch.tensor([[1.0, 0.0, 1.0, 0.0] * 3, [0.0, 1.0, 0.0, 1.0] * 3])
    found = Gathered(photos=flat, words=words)
    assert decide_owners(found, GRID, AttentionRouting(smooth=1), open_pixels=OPEN).owners.tolist() == [0, 1] * 6


def test_a_starved_subject_gets_its_share() -> None:
    strong = [1.0] * 12
    weak = [1.0] + [0.5 + i / 100 for i in range(11)]
    greedy, fair = (
        decide_owners(gathered(strong, weak), GRID, AttentionRouting(smooth=1, least=least), open_pixels=OPEN).owners
        for least in (0.0, 1.0)
    )
    assert (greedy == 1).sum() == 0
    assert 6 <= (fair == 1).sum() <= 8
    assert set((fair == 1).nonzero()[:, 0].tolist()) >= {0, 8, 9, 10, 11}  # those that it wants most


def test_names_of_blocks() -> None:
    transformer = build_transformer()
    assert block_names(transformer, (0, 3)) == {"transformer_blocks.0", "single_transformer_blocks.1"}
    assert block_names(transformer, None) == {"transformer_blocks.1", "single_transformer_blocks.0"}
    for bad in ((), (4,), (-1,)):
        with pytest.raises(ValueError, match="numbers from 0 to 3"):
            block_names(transformer, bad)


@pytest.mark.parametrize(
    "bad", [{"threshold": 1.1}, {"least": -0.1}, {"words": -1}, {"smooth": 2}, {"smooth": 0}, {"step": -1}]
)
def test_bad_numbers_are_refused(bad: dict) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(bad))}` must be"):
        AttentionRouting(**bad)
