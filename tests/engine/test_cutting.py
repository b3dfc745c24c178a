"""A subject cut out: three files, or none."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from anystory.engine.cutting import cut_out_into
from anystory.subjects.segmenter import find_segmenter
from cli.refusals import tree


def test_the_results_are_named_after_the_picture_and_overwrite_nothing(references, tmp_path):
    (tmp_path / "red-mask.png").write_text("mine")
    found = [cut_out_into(tmp_path, references / "red.png", find_segmenter("auto")) for _ in range(2)]
    assert (found[0].method, found[0].confidence, found[0].uncertain) == ("alpha", 1.0, False)
    assert [one.cutout.name for one in found] == ["red-2-cutout.png", "red-3-cutout.png"]
    names = {f"red-{number}-{kind}.png" for number in (2, 3) for kind in ("cutout", "mask", "sheet")}
    assert set(tree(tmp_path)) == {"red-mask.png", *names}
    with Image.open(found[0].cutout) as image, Image.open(found[0].mask) as mask:
        pixels = np.asarray(image)
        np.testing.assert_array_equal(pixels[..., 3], np.asarray(mask))
        assert (pixels[pixels[..., 3] == 0][:, :3] == 255).all()  # what is cut away is not kept


def test_a_picture_without_a_subject_leaves_nothing(tmp_path):
    Image.new("RGBA", (16, 16)).save(tmp_path / "empty.png")
    with pytest.raises(ValueError, match="all of it is transparent"):
        cut_out_into(tmp_path / "out", tmp_path / "empty.png", find_segmenter("auto"))
    assert set(tree(tmp_path)) == {"empty.png"}


def test_a_name_that_is_taken_meanwhile_takes_no_other_with_it(references, tmp_path, monkeypatch):
    """Another program writes the sheet's name after the names were chosen: none of ours is left."""
    taken = {kind: tmp_path / f"red-{kind}.png" for kind in ("cutout", "mask", "sheet")}
    taken["sheet"].write_text("theirs")
    monkeypatch.setattr("anystory.engine.cutting._free_paths", lambda out, stem: taken)
    with pytest.raises(FileExistsError):
        cut_out_into(tmp_path, references / "red.png", find_segmenter("auto"))
    assert set(tree(tmp_path)) == {"red-sheet.png"}
