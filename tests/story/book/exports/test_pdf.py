"""PDF, read with pypdf."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pypdf
import pytest

from anystory.story.book.exports.pdf import _lines, _plain_characters, write_pdf


@pytest.fixture(scope="module")
def path(laid_out, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pdf") / "book.pdf"
    write_pdf(laid_out, path, 60)
    return path


def words(text: str) -> str:
    return " ".join(text.split())


def test_text_is_text_page_by_page(path, laid_out) -> None:
    reader = pypdf.PdfReader(path)
    assert len(reader.pages) == len(laid_out.pages)
    for page, made in zip(reader.pages, laid_out.pages, strict=True):
        text = words(page.extract_text())
        for placed in [*made.words, *(one for panel in made.panels for one in panel.words)]:
            assert all(line in text for line in placed.block.lines)
        assert page.mediabox.width == made.width
    fonts = {str(found["/BaseFont"]) for found in objects(reader) if "/BaseFont" in found}
    assert any("ComicRelief" in font for font in fonts)
    assert all("/FontFile2" in found for found in objects(reader) if found.get("/Type") == "/FontDescriptor")


def objects(reader: pypdf.PdfReader) -> list[dict]:
    size: Any = reader.trailer["/Size"]
    found = [reader.get_object(number) for number in range(1, size)]
    return [one for one in found if isinstance(one, dict)]


def test_labels_title_author_and_language(path) -> None:
    reader = pypdf.PdfReader(path)
    assert reader.page_labels == ["Cover", "1", "2"]
    assert reader.metadata is not None
    assert (reader.metadata.title, reader.metadata.author) == ("Fox & <Robot>", "A. Writer")
    root: Any = reader.trailer["/Root"]
    assert root["/Lang"] == "en"
    assert root["/ViewerPreferences"]["/Direction"] == "/L2R"
    assert root["/MarkInfo"]["/Marked"].value is True
    assert b"Date" not in path.read_bytes()


def test_pictures_and_balloons_are_tagged(path, laid_out) -> None:
    reader = pypdf.PdfReader(path)
    root: Any = reader.trailer["/Root"]
    document = root["/StructTreeRoot"]["/K"]
    sections = [kid.get_object() for kid in document["/K"]]
    assert len(sections) == len(laid_out.pages)
    elements = [kid.get_object() for section in sections for kid in section["/K"]]
    said = [(str(one["/S"]), str(one.get("/Alt", one.get("/ActualText")))) for one in elements]
    assert said == [
        ("/Figure", "Fox & robot 1"),
        ("/H1", "Fox & <Robot>"),
        ("/P", "A. Writer"),
        ("/Figure", "Fox & robot 1"),
        ("/P", "One morning…"),
        ("/P", "Hello, robot!"),
        ("/Figure", "Fox & robot 2"),
        ("/P", "Who are you?"),
        ("/P", "I am not quite sure."),
        ("/Figure", "Fox & robot 3"),
        ("/P", "HELP & RUN!"),
        ("/P", "Off stage"),
    ]
    for page, section in zip(reader.pages, sections, strict=True):
        stream: Any = page.get_contents()
        content = stream.get_data().decode("latin-1")
        marked = [kid for element in section["/K"] for kid in element.get_object()["/K"]]
        assert marked == list(range(len(marked)))
        assert content.count("/MCID") == len(marked)
        assert content.count("BMC") + content.count("BDC") == content.count("EMC")


def test_the_same_book_gives_the_same_file(path, laid_out, tmp_path) -> None:
    write_pdf(laid_out, tmp_path / "again.pdf", 60)
    assert (tmp_path / "again.pdf").read_bytes() == path.read_bytes()


def test_a_book_from_right_to_left(backwards, tmp_path) -> None:
    write_pdf(backwards, tmp_path / "book.pdf", 36)
    reader = pypdf.PdfReader(tmp_path / "book.pdf")
    root: Any = reader.trailer["/Root"]
    assert root["/ViewerPreferences"]["/Direction"] == "/R2L"
    assert root["/Lang"] == "he"


def test_copied_lines_have_no_hyphens_of_line_breaks() -> None:
    tags = list(_lines("A well-known\u00ad Donaudampf schiff", ["A well-", "known Donau-", "dampf schiff"], "P"))
    assert [tag.line for tag in tags] == ["A well-", "known Donau", "dampf schiff"]
    assert "".join(tag.line for tag in tags) == tags[0].text
    assert [tag.first for tag in tags] == [True, False, False]


def test_glyphs_mean_letters_not_their_joined_forms() -> None:
    cmap = (
        "begincmap\n1 begincodespacerange\n<0000> <FFFF>\nendcodespacerange\n"
        "3 beginbfchar\n<0001> <0041>\n<0002> <FB01>\n<0003> <FEFB>\nendbfchar\n"
        "1 beginbfrange\n<0010> <0011> <FE91>\nendbfrange\nendcmap\nend"
    )
    assert _plain_characters(cmap) == (
        "begincmap\n1 begincodespacerange\n<0000> <FFFF>\nendcodespacerange\n"
        "5 beginbfchar\n<0001> <0041>\n<0002> <00660069>\n<0003> <FEFB>\n<0010> <0628>\n<0011> <0628>\nendbfchar\n"
        "endcmap\nend"
    )
