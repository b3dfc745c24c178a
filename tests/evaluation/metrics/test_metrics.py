"""Each metric against values that are worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from anystory.evaluation.metrics.background import background_similarity, diversity
from anystory.evaluation.metrics.copy_paste import copied_pose, copy_paste_features, copy_paste_scores
from anystory.evaluation.metrics.cutouts import cut_by_mask, cut_by_segmenter
from anystory.evaluation.metrics.detection import assign
from anystory.evaluation.metrics.presence import is_double, on_stage_count
from anystory.evaluation.metrics.routing import routing_iou
from anystory.evaluation.metrics.similarity import product_over_subjects, similarity, text_similarity
from anystory.subjects.cutout import Cutout


def at(*degrees: float) -> np.ndarray:
    """Unit vectors in a plane: their cosines are those of the angles between them."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_similarity_is_the_mean_of_all_pairs():
    assert similarity(at(0), at(60)) == pytest.approx(0.5)
    assert similarity(at(0, 90), at(0, 60)) == pytest.approx((1 + 0.5 + 0 + math.sin(math.radians(60))) / 4)
    assert similarity(at(30), at(30)) == pytest.approx(1)
    assert similarity(at(0), at(180)) == pytest.approx(-1)


def test_clip_t_compares_a_picture_with_its_own_prompt():
    assert text_similarity(at(0, 0, 90), at(0, 60, 0)) == pytest.approx([1, 0.5, 0])


def test_m_dino_is_a_product():
    assert product_over_subjects([0.8, 0.5]) == pytest.approx(0.4)
    assert product_over_subjects([0.9, 0.0]) == 0, "a mean would hide the missing one"
    assert product_over_subjects([-0.5, -0.5]) == 0


def test_bad_features_are_refused():
    with pytest.raises(ValueError, match="at least one picture on each side, got 0 and 1"):
        similarity(np.zeros((0, 2)), at(0))
    with pytest.raises(ValueError, match="of one encoder have one length"):
        similarity(at(0), np.ones((1, 3)))
    with pytest.raises(ValueError, match="got 2 pictures and 1 texts"):
        text_similarity(at(0, 1), at(0))
    with pytest.raises(ValueError, match="at least one subject"):
        product_over_subjects([])
    with pytest.raises(ValueError, match="at least two references"):
        copy_paste_scores(at(0), at(0))
    with pytest.raises(ValueError, match="at least 0"):
        on_stage_count(-1, 2)


def test_copy_paste_is_a_softmax_over_the_reference_and_another():
    assert copy_paste_scores(at(45), at(0, 90)) == pytest.approx([0.5])
    cosines = np.cos(np.radians([44, 46]))
    wanted = 1 / (1 + math.exp((cosines[1] - cosines[0]) / 0.01))
    assert copy_paste_scores(at(44), at(0, 90)) == pytest.approx([wanted])
    assert copy_paste_scores(at(0), at(0, 90))[0] > 0.999
    assert copy_paste_scores(at(90), at(0, 90))[0] < 0.001


def test_the_reference_is_compared_with_its_mirror_image():
    class Halves:
        """Describes a picture by how bright its halves are."""

        def pictures(self, pictures):
            pixels = [np.asarray(one.convert("L"), float) for one in pictures]
            halves = np.array([[one[:, :4].mean(), one[:, 4:].mean()] for one in pixels])
            return halves / np.linalg.norm(halves, axis=1, keepdims=True)

    left = np.zeros((8, 8), np.uint8)
    left[:, :4] = 200
    features = copy_paste_features(Halves(), Image.fromarray(left))
    assert features.tolist() == [[1, 0], [0, 1]]
    drawn = Halves().pictures([Image.fromarray(left), Image.fromarray(left[:, ::-1].copy())])
    assert copy_paste_scores(drawn, features) == pytest.approx([1, 0], abs=1e-6)


def test_a_copied_pose_is_the_references():
    assert copied_pose("waving", "waving", "waving") == {}
    assert copied_pose("waving", "sitting", "sitting")["copied pose"] == (1, 1)
    assert copied_pose("waving", "sitting", "waving") == {
        "pose asked": (1, 1), "pose of the reference": (0, 1), "copied pose": (0, 1),
    }  # fmt: skip
    assert "copied pose" not in copied_pose("waving", "sitting", "walking"), "neither: no preference to be seen"
    assert copied_pose("waving", "sitting", None)["pose asked"] == (0, 1)


def test_a_number_of_characters_that_is_off_by_one_costs_by_how_many_there_are():
    assert on_stage_count(2, 2) == 1
    assert on_stage_count(3, 2) == on_stage_count(1, 2) == pytest.approx(math.exp(-0.5), abs=1e-5)
    assert on_stage_count(5, 4) == pytest.approx(math.exp(-0.25), abs=1e-5)
    assert on_stage_count(0, 0) == 1


def blocks(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((32, 32), bool)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = True
    return mask


def test_two_large_parts_are_a_double():
    assert not is_double(blocks((2, 2, 12, 12)))
    assert not is_double(blocks())
    assert is_double(blocks((2, 2, 12, 12), (20, 2, 28, 12)))
    assert not is_double(blocks((2, 2, 12, 12), (20, 2, 24, 12))), "a part of 40 % is an arm"
    assert not is_double(blocks((2, 2, 12, 12), (12, 12, 20, 20))), "they touch"


def test_a_mask_cuts_its_subject_out_over_white():
    picture = np.full((32, 32, 3), 90, np.uint8)
    picture[4:20, 8:16] = (200, 0, 0)
    cut = cut_by_mask(picture, blocks((8, 4, 16, 20)), 64)
    assert cut is not None
    pixels = np.asarray(cut)
    assert pixels[32, 32].tolist() == [200, 0, 0]
    assert pixels[32, 2].tolist() == [255, 255, 255]
    assert cut_by_mask(picture, blocks((0, 0, 3, 3))) is None, "9 of 1024 pixels are nobody"
    with pytest.raises(ValueError, match="picture's size"):
        cut_by_mask(picture, np.ones((8, 8), bool))


def test_a_segmenter_cuts_inside_the_mask_only():
    seen = []

    def reddish(rgb):
        seen.append(rgb.shape)
        found = (rgb[..., 0] == 200).astype(np.uint8) * 255
        return Cutout(found, "red") if found.any() else None

    picture = np.full((32, 32, 3), 90, np.uint8)
    picture[4:20, 8:16] = (200, 0, 0)
    cut = cut_by_segmenter(picture, blocks((6, 2, 18, 22)), reddish, 32)
    assert seen == [(20, 12, 3)]
    assert cut is not None
    assert np.asarray(cut)[16, 16].tolist() == [200, 0, 0]
    assert cut_by_segmenter(picture, blocks((20, 20, 30, 30)), reddish) is None
    assert cut_by_segmenter(picture, blocks(), reddish) is None


def test_detections_are_assigned_so_that_all_fit_best():
    # The greedy choice (0.9 first) would leave 0.1 for the other: 1.0 in all, against 1.5.
    assert assign([[0.9, 0.8], [0.7, 0.1]]) == [1, 0]
    assert assign([[0.5], [0.9]]) == [None, 0], "one of two is missing"
    assert assign(np.zeros((2, 0))) == [None, None]


def test_backgrounds_are_compared_where_nobody_stands():
    rng = np.random.default_rng(0)
    scene = rng.integers(256, size=(32, 32, 3), dtype=np.uint8)
    other = scene.copy()
    other[:, 20:] = 255 - other[:, 20:]
    stands = blocks((13, 0, 32, 32))  # the window of SSIM reaches three pixels to each side
    assert background_similarity(scene, scene, blocks()) == pytest.approx(1)
    assert background_similarity(scene, other, stands) == pytest.approx(1)
    unlike = background_similarity(scene, other, blocks((0, 0, 24, 32)))
    assert unlike is not None
    assert unlike < 0
    assert background_similarity(scene, other, np.ones((32, 32), bool)) is None
    with pytest.raises(ValueError, match="one size"):
        background_similarity(scene, scene[:16], blocks())


def test_diversity_is_how_far_pictures_are_from_one_another():
    assert diversity(at(0, 60)) == pytest.approx(0.5)
    assert diversity(at(0, 0, 60)) == pytest.approx(1 - (1 + 0.5 + 0.5) / 3)
    assert diversity(at(0, 0)) == pytest.approx(0)
    assert diversity(at(0)) is None


def test_routing_iou_counts_missing_subjects_as_nothing():
    mask = blocks((0, 0, 16, 16))
    assert routing_iou([mask], [mask]) == 1
    assert routing_iou([mask, mask], [mask, None]) == 0.5
    assert routing_iou([mask], [blocks((8, 0, 24, 16))]) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="a truth for each mask"):
        routing_iou([mask], [])
