"""Words in their places."""

from __future__ import annotations

import itertools
import math
from typing import get_args

import numpy as np
import pytest

from anystory.story.book.contents import Kind, Line, PanelArt
from anystory.story.book.lettering.balloons import Box
from anystory.story.book.lettering.heads import Occupied
from anystory.story.book.lettering.placing import MissingScriptError, PlacedWords, TextDoesNotFitError, place_words
from anystory.story.book.lettering.tails import tail_to_face
from anystory.story.book.lettering.typefaces import Typefaces
from story.book.books import FOX, ROBOT, panel

FRAME = Box(30, 40, 240, 240)
SCALE = 240 / 48
TEXT = "Have you seen my umbrella over there near the old harbour where it always rains"
WORDS = TEXT.split()


@pytest.fixture(scope="module")
def typefaces() -> Typefaces:
    return Typefaces("en", system=False)


def place(art: PanelArt, typefaces: Typefaces, *, right_to_left: bool = False, frame: Box = FRAME):
    return place_words(art, Occupied(art.masks, frame), typefaces, sizes=(6, 12), right_to_left=right_to_left)


def head(box: tuple[int, int, int, int]) -> Box:
    """The upper third of a figure on the page: surely its head."""
    left, top, right, bottom = box
    return Box(FRAME.x + left * SCALE, FRAME.y + top * SCALE, (right - left) * SCALE, (bottom - top) / 3 * SCALE)


def check(placed: tuple[PlacedWords, ...], heads: list[Box], frame: Box = FRAME) -> None:
    """In the frame, over no head, and apart from one another."""
    for one in placed:
        assert one.box.x >= frame.x
        assert one.box.y >= frame.y
        assert one.box.right <= frame.right
        assert one.box.bottom <= frame.bottom
        assert not any(one.box.overlaps(head) for head in heads)
    for one, other in itertools.combinations(placed, 2):
        assert not one.box.overlaps(other.box)


def test_balloons_are_beside_heads_and_their_tails_end_at_the_speakers(typefaces) -> None:
    art = panel(1, ("fox", "Have you seen my umbrella?"), ("robot", "It ran away."), narration="One day at the sea")
    caption, fox, robot = place(art, typefaces)
    check((caption, fox, robot), [head(FOX), head(ROBOT)])
    assert (caption.shape, caption.tip) == ("caption", None)
    for one, box in ((fox, FOX), (robot, ROBOT)):
        left, top, right, bottom = box
        assert one.tip is not None
        assert FRAME.x + left * SCALE - 12 <= one.tip[0] <= FRAME.x + right * SCALE + 12
        assert FRAME.y + top * SCALE - 12 <= one.tip[1] <= FRAME.y + (0.2 * top + 0.8 * bottom) * SCALE
        assert not one.box.overlaps(Box(*one.tip, 0, 0))
    assert [one.text for one in (caption, fox, robot)] == [art.narration, *(line.text for line in art.lines)]
    assert {one.size for one in (caption, fox, robot)} == {12}


@pytest.mark.parametrize("seed", range(12))
def test_any_panel_with_little_text(typefaces, seed) -> None:
    """Figures anywhere, and up to three lines of a few words."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:40, :60]
    masks, heads = {}, []
    frame = Box(0, 0, 330, 220)
    for name, middle in zip("ab", random.uniform([8, 34], [26, 52]), strict=True):
        top, radius, high = random.uniform(4, 20), random.uniform(3, 6), random.uniform(14, 20)
        ellipse = ((x - middle) / radius) ** 2 + ((y - top - high / 2) / (high / 2)) ** 2 < 1
        masks[name] = ellipse
        heads.append(Box((middle - radius / 2) * 5.5, top * 5.5 + 4, radius * 5.5, high * 5.5 * 0.3))
    lines = []
    for _ in range(random.integers(1, 4)):
        words = WORDS[random.integers(0, 8) :][:5]
        kind = get_args(Kind)[random.integers(0, 4)]
        lines.append(Line(text=" ".join(words), speaker=str(random.choice(["a", "b"])), kind=kind))
    art = panel(seed, *lines)
    art = PanelArt(number=seed, picture=art.picture.resize((60, 40)), masks=masks, lines=tuple(lines))
    check(place(art, typefaces, frame=frame), heads, frame)


def test_balloons_are_read_in_order_in_either_direction(typefaces) -> None:
    art = panel(1, (None, "First of all."), (None, "Then this."))
    for right_to_left in (False, True):
        first, second = place(art, typefaces, right_to_left=right_to_left)
        lower = second.box.y >= first.box.centre[1]
        along = second.box.centre[0] > first.box.centre[0]
        assert lower or along != right_to_left


def test_captions_begin_where_reading_begins(typefaces) -> None:
    [left] = place(panel(1, narration="One day"), typefaces)
    [right] = place(panel(1, narration="One day"), typefaces, right_to_left=True)
    assert left.box.x == pytest.approx(FRAME.x + 4)
    assert right.box.right == pytest.approx(FRAME.right - 4)
    assert left.box.y == right.box.y == pytest.approx(FRAME.y + 4)


def test_a_speaker_who_is_not_in_the_picture_has_no_tail(typefaces) -> None:
    placed = place(panel(1, ("somebody", "Hello?"), (None, "Who is there?")), typefaces)
    assert [one.tip for one in placed] == [None, None]


def test_much_text_is_smaller_and_too_much_is_refused_with_panel_and_line(typefaces) -> None:
    some = panel(3, ("fox", "Hello."), ("robot", " ".join(WORDS * 4)))
    placed = place(some, typefaces)
    check(placed, [head(FOX), head(ROBOT)])
    assert 6 <= placed[0].size < 12
    with pytest.raises(TextDoesNotFitError, match=r'^panel 4: line 2 \("Have you .*…"\) does not fit .* 6 points'):
        place(panel(4, ("fox", "Hello."), ("robot", " ".join(WORDS * 40))), typefaces)
    with pytest.raises(TextDoesNotFitError, match=r"panel 5: the narration"):
        place(panel(5, narration=" ".join(WORDS * 60)), typefaces)


def test_a_character_without_a_font_is_refused_with_the_panel(typefaces) -> None:
    with pytest.raises(MissingScriptError, match=r"panel 6: .* CJK characters 日"):
        place(panel(6, ("fox", "日")), typefaces)


def test_a_panel_without_words(typefaces) -> None:
    assert place(panel(1), typefaces) == ()


def test_heads_are_found_without_specks_and_with_separate_ears() -> None:
    mask = np.zeros((100, 100), bool)
    mask[30:90, 40:60] = True
    mask[26:28, 42:58] = True  # ears, two rows above
    mask[95:97, 2:4] = True  # a speck
    found = Occupied({"a": mask, "nobody": np.zeros((100, 100), bool)}, Box(0, 0, 100, 100))
    assert set(found.heads) == {"a"}
    box = found.heads["a"]
    assert box.x == pytest.approx(40, abs=2)
    assert box.right == pytest.approx(60, abs=2)
    assert box.y == pytest.approx(26, abs=2)
    assert box.bottom == pytest.approx(53, abs=3)
    assert found.covered(np.array([40.0]), np.array([40.0]), 20, 20) == pytest.approx(1, abs=0.06)
    assert found.covered(np.array([70.0]), np.array([40.0]), 20, 20) == 0


def after(first: Box, second: Box) -> bool:
    """Whether the second is read after the first, from left to right."""
    along = second.x >= first.x and second.right > first.right
    return second.y >= first.bottom or (along and second.y >= first.y - 0.25 * second.height)


@pytest.mark.parametrize("speakers", ["rf", "fr", "ff", "frf"])
def test_no_line_is_read_before_an_earlier_one(typefaces, speakers) -> None:
    """The first speaker may stand on the right: then the answer is below, not on the left."""
    names = {"f": "fox", "r": "robot"}
    lines = [(names[one], text) for one, text in zip(speakers, ["Who are you?", "Nobody.", "Oh."], strict=False)]
    placed = place(panel(1, *lines, narration="One day"), typefaces)
    for first, second in itertools.combinations([one.box for one in placed], 2):
        assert after(first, second)


def person(left: int, top: int) -> np.ndarray:
    """(48, 48): a round head of 8 pixels, a neck and a wider body."""
    mask = np.zeros((48, 48), bool)
    y, x = np.mgrid[:48, :48]
    mask |= (x - left - 4) ** 2 + (y - top - 4) ** 2 <= 20
    mask[top + 8 : top + 10, left + 3 : left + 6] = True
    mask[top + 10 : 48, left - 2 : left + 11] = True
    return mask


def test_a_head_ends_at_the_neck_and_a_tail_at_its_edge(typefaces) -> None:
    masks = {"a": person(12, 10)}
    occupied = Occupied(masks, FRAME)
    head, face = occupied.heads["a"], occupied.faces["a"]
    assert head.bottom == pytest.approx(FRAME.y + 19 * SCALE, abs=8)
    assert head.right == pytest.approx(FRAME.x + 21 * SCALE, abs=6)
    for balloon in (Box(60, 60, 60, 20), Box(200, 90, 60, 20), Box(40, 240, 60, 20), Box(130, 250, 60, 20)):
        tip = tail_to_face(balloon, face, head)
        assert tip is not None
        assert not Box(tip[0], tip[1], 0, 0).overlaps(face.box)
        to_face = math.dist(tip, face.mouth)
        assert to_face < math.dist(balloon.centre, face.mouth)
        assert not balloon.overlaps(Box(tip[0], tip[1], 0, 0))


def test_a_figure_without_a_neck_has_its_chin_a_little_above_the_middle() -> None:
    mask = np.zeros((100, 100), bool)
    mask[20:80, 40:60] = True
    found = Occupied({"a": mask}, Box(0, 0, 100, 100))
    assert found.heads["a"].bottom == pytest.approx(20 + 0.42 * 60, abs=2)
    assert found.faces["a"].box.bottom == pytest.approx(20 + 0.56 * 60, abs=2)


def test_a_second_line_of_one_speaker_is_joined_to_the_first(typefaces) -> None:
    first, second, answer = place(panel(1, ("fox", "Hello."), ("fox", "Anybody?"), ("robot", "No.")), typefaces)
    check((first, second, answer), [head(FOX), head(ROBOT)])
    assert second.tip is not None
    assert first.box.overlaps(Box(*second.tip, 0, 0), 1)
    across = max(second.box.x - first.box.right, first.box.x - second.box.right, 0)
    down = max(second.box.y - first.box.bottom, first.box.y - second.box.bottom, 0)
    assert math.hypot(across, down) < 2 * first.size
    assert answer.tip is not None
    assert not first.box.overlaps(Box(*answer.tip, 0, 0), 1)
