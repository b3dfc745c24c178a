"""The shapes of balloons."""

from __future__ import annotations

import pytest
import skia

from anystory.story.book.lettering.balloons import Box, outer_size, outline
from anystory.story.book.lettering.text_block import BreakableText, TextBlock
from anystory.story.book.lettering.typefaces import Typefaces

SHAPES = ["speech", "whisper", "thought", "shout", "caption"]
TEXTS = ["No.", "Have you seen my umbrella?", "It ran away, over the hills and far away, and never came back to me."]


@pytest.fixture(scope="module")
def typefaces() -> Typefaces:
    return Typefaces("en", system=False)


def corners(block: TextBlock, box: Box, size: float) -> list[tuple[float, float]]:
    """The corners of each line, centred in the box."""
    x, y = box.centre
    found = []
    for row, width in enumerate(block.widths):
        top = y - block.height * size / 2 + row * block.line_height * size
        for edge in (top, top + (block.ascent + block.descent) * size):
            found += [(x - width * size / 2, edge), (x + width * size / 2, edge)]
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("size", [7.0, 12.0])
def test_all_text_lies_inside_and_the_shape_fills_its_box(typefaces, shape, text, size) -> None:
    for block in BreakableText(text, typefaces).blocks(16):
        width, height = outer_size(block, shape, size)
        box = Box(10, 20, width, height)
        parts = outline(shape, box, size)
        for point in corners(block, box, size):
            assert any(part.contains(*point) for part in parts)
        bounds = [part.getBounds() for part in parts]
        assert min(bound.left() for bound in bounds) >= box.x - 0.01
        assert max(bound.right() for bound in bounds) <= box.right + 0.01
        assert min(bound.top() for bound in bounds) >= box.y - 0.01
        assert max(bound.bottom() for bound in bounds) <= box.bottom + 0.01
        assert max(bound.right() for bound in bounds) - min(bound.left() for bound in bounds) > 0.85 * width


@pytest.mark.parametrize("shape", ["speech", "whisper", "thought", "shout"])
@pytest.mark.parametrize("tip", [(60.0, 140.0), (-40.0, 30.0), (160.0, -30.0)])
def test_a_tail_reaches_its_tip(shape, tip) -> None:
    box = Box(10, 20, 90, 40)
    parts = outline(shape, box, 10.0, tip)
    near = skia.Rect.MakeLTRB(tip[0] - 5, tip[1] - 5, tip[0] + 5, tip[1] + 5)
    assert any(skia.Rect.Intersects(part.getBounds(), near) for part in parts)
    assert not any(part.contains(box.x + 100, box.y - 90) for part in parts)


def test_boxes_overlap_with_and_without_a_gap() -> None:
    box = Box(0, 0, 10, 10)
    assert box.overlaps(Box(9, 9, 5, 5))
    assert not box.overlaps(Box(10, 0, 5, 5))
    assert box.overlaps(Box(12, 0, 5, 5), 3)
