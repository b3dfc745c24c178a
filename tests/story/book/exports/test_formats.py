"""Writing exports: whole or not at all, and over nothing by itself."""

from __future__ import annotations

import sys

import pytest

from anystory.story.book.exports.formats import FORMATS, check_targets, export_book, targets


def test_names_of_files(tmp_path) -> None:
    assert {name: path.name for name, path in targets(list(FORMATS), tmp_path, "tale").items()} == {
        "png": "tale-pages", "pdf": "tale.pdf", "cbz": "tale.cbz", "epub": "tale.epub", "html": "tale.html",
        "layers": "tale-layers", "mp4": "tale.mp4",
    }  # fmt: skip
    with pytest.raises(ValueError, match="no format 'docx': choose from png, pdf"):
        targets(["pdf", "docx"], tmp_path, "tale")
    with pytest.raises(ValueError, match="no format is named"):
        targets([], tmp_path, "tale")


def test_a_missing_extra_is_one_sentence(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"the format mp4 needs av, which is not installed: .*anystory\[video\]"):
        targets(["mp4"], tmp_path, "tale")


def test_nothing_is_overwritten_unless_it_is_asked_for(laid_out, tmp_path) -> None:
    chosen = targets(["html", "png"], tmp_path / "out", "tale")
    assert [name for name, _ in export_book(laid_out, chosen, dpi=36)] == ["html", "png"]
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert len(before) == 1 + len(laid_out.pages)
    with pytest.raises(ValueError, match=r"tale\.html exists already: .* --overwrite"):
        list(export_book(laid_out, chosen, dpi=72))
    chosen["html"].unlink()
    with pytest.raises(ValueError, match=r"tale-pages exists already"):
        list(export_book(laid_out, chosen, dpi=72))
    assert not chosen["html"].exists()
    list(export_book(laid_out, chosen, dpi=36, overwrite=True))
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_files_that_no_export_wrote_are_never_replaced(laid_out, tmp_path) -> None:
    chosen = targets(["png", "pdf"], tmp_path, "tale")
    chosen["png"].mkdir()
    (chosen["png"] / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds notes\.txt, which no export wrote"):
        list(export_book(laid_out, chosen, dpi=36, overwrite=True))
    (chosen["png"] / "notes.txt").unlink()
    chosen["pdf"].mkdir()
    with pytest.raises(ValueError, match="is a folder, not a file"):
        check_targets(chosen, overwrite=True)
    chosen["pdf"].rmdir()
    chosen["png"].rmdir()
    chosen["png"].write_text("mine")
    with pytest.raises(ValueError, match="is a file, not a folder"):
        check_targets(chosen, overwrite=True)


def test_a_failure_leaves_nothing_behind(laid_out, tmp_path, monkeypatch) -> None:
    def fails(laid_out, path, dpi) -> None:
        (path / "page-001.png").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(FORMATS, "png", FORMATS["png"]._replace(write=fails))
    with pytest.raises(OSError, match="No space left"):
        list(export_book(laid_out, targets(["png"], tmp_path / "new", "tale"), dpi=36))
    assert list(tmp_path.iterdir()) == []
