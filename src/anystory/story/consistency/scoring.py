"""Which of several candidates shows the cast best."""

from __future__ import annotations

from collections.abc import Callable

from anystory.evaluation.metrics.presence import DOUBLED
from anystory.story.book_folder import Book, read_scores, save_scores
from anystory.story.consistency.judging import Judge, Shot
from anystory.story.consistency.report import judge_of, shot_of

__all__ = ["score_book", "score_of"]


def score_of(shot: Shot, judge: Judge) -> float:
    """The mean likeness of a picture's characters to their references, 0…1; 1 for a picture without characters."""
    found = []
    for role, sight in judge.sights(shot).items():
        reference = judge.reference(role)
        if sight.missing or reference is None:
            found.append(0.0)
        else:
            found.append(judge.likeness(sight.features, reference) * (DOUBLED if sight.doubled else 1.0))
    return sum(found) / len(found) if found else 1.0


def score_book(book: Book, judge: Callable[[Book], Judge] = judge_of) -> int:
    """Score the candidates of each panel that has several, unless they have scores; how many were scored.

    Raises:
        ValueError: see `judge_of`.
    """
    scores = read_scores(book.folder)
    judging, count = None, 0
    for panel in book.panels:
        own = dict(scores.get(panel.entry.key, {}))
        for candidate in panel.candidates if len(panel.candidates) > 1 else ():
            if candidate.number not in own:
                judging = judging or judge(book)
                own[candidate.number] = round(score_of(shot_of(book, panel, candidate), judging), 4)
                count += 1
        scores[panel.entry.key] = own
    if count:
        save_scores(book.folder, scores)
    return count
