"""Comic archives, e-books, and pages as pictures."""

from __future__ import annotations

import io
import posixpath
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from anystory.story.book.exports.epub import write_epub
from anystory.story.book.exports.pictures import write_cbz, write_pages

NS = {
    "opf": "http://www.idpf.org/2007/opf",
    "dc": "http://purl.org/dc/elements/1.1/",
    "html": "http://www.w3.org/1999/xhtml",
    "svg": "http://www.w3.org/2000/svg",
    "box": "urn:oasis:names:tc:opendocument:xmlns:container",
}


def test_pages_are_pngs_that_know_their_resolution(laid_out, tmp_path) -> None:
    write_pages(laid_out, tmp_path, 90)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["page-001.png", "page-002.png", "page-003.png"]
    with Image.open(tmp_path / names[0]) as opened:
        assert opened.size == (round(laid_out.pages[0].width * 1.25), round(laid_out.pages[0].height * 1.25))
        assert opened.info["dpi"] == pytest.approx((90, 90), abs=0.1)


def test_a_comic_archive(laid_out, backwards, tmp_path) -> None:
    write_cbz(laid_out, tmp_path / "book.cbz", 40)
    with zipfile.ZipFile(tmp_path / "book.cbz") as archive:
        assert archive.namelist() == ["page-001.png", "page-002.png", "page-003.png", "ComicInfo.xml"]
        info = ElementTree.fromstring(archive.read("ComicInfo.xml"))
        sizes = [Image.open(io.BytesIO(archive.read(name))).size for name in archive.namelist()[:3]]
        assert all(entry.date_time == (1980, 1, 1, 0, 0, 0) for entry in archive.infolist())
    found = {child.tag: child.text for child in info if child.tag != "Pages"}
    assert found == {
        "Title": "Fox & <Robot>", "Writer": "A. Writer", "PageCount": "3", "LanguageISO": "en", "Manga": "No",
    }  # fmt: skip
    pages = info.findall("Pages/Page")
    assert [(int(page.attrib["ImageWidth"]), int(page.attrib["ImageHeight"])) for page in pages] == sizes
    assert pages[0].attrib["Type"] == "FrontCover"
    write_cbz(backwards, tmp_path / "he.cbz", 36)
    with zipfile.ZipFile(tmp_path / "he.cbz") as archive:
        assert b"<Manga>YesAndRightToLeft</Manga>" in archive.read("ComicInfo.xml")


@pytest.fixture(scope="module")
def epub(laid_out, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("epub") / "book.epub"
    write_epub(laid_out, path, 40)
    return path


def test_an_ebooks_package_names_every_file_once(epub, laid_out) -> None:
    with zipfile.ZipFile(epub) as archive:
        first = archive.infolist()[0]
        assert (first.filename, first.compress_type) == ("mimetype", zipfile.ZIP_STORED)
        assert archive.read("mimetype") == b"application/epub+zip"
        container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
        [root] = container.findall("box:rootfiles/box:rootfile", NS)
        package = ElementTree.fromstring(archive.read(root.attrib["full-path"]))
        items = package.findall("opf:manifest/opf:item", NS)
        folder = posixpath.dirname(root.attrib["full-path"])
        listed = [posixpath.join(folder, item.attrib["href"]) for item in items]
        assert sorted([*listed, "mimetype", "META-INF/container.xml", root.attrib["full-path"]]) == sorted(
            archive.namelist()
        )
        by_id = {item.attrib["id"]: item for item in items}
        assert len(by_id) == len(items)
    spine = package.find("opf:spine", NS)
    assert spine is not None
    assert spine.attrib["page-progression-direction"] == "ltr"
    pages = [by_id[entry.attrib["idref"]] for entry in spine]
    assert len(pages) == len(laid_out.pages)
    assert all(page.attrib["properties"] == "svg" for page in pages)
    assert [item.attrib["href"] for item in items if item.get("properties") == "nav"] == ["nav.xhtml"]
    assert [item.attrib["href"] for item in items if item.get("properties") == "cover-image"] == ["cover.jpg"]
    title = package.find("opf:metadata/dc:title", NS)
    assert title is not None
    assert title.text == "Fox & <Robot>"
    said = {one.get("property"): one.text for one in package.findall("opf:metadata/opf:meta", NS)}
    assert said["rendition:layout"] == "pre-paginated"


def test_an_ebooks_pages_are_well_formed_and_readable_aloud(epub, laid_out) -> None:
    with zipfile.ZipFile(epub) as archive:
        for index, made in enumerate(laid_out.pages, start=1):
            page = ElementTree.fromstring(archive.read(f"OEBPS/page-{index:03}.xhtml"))
            [viewport] = [meta for meta in page.iter(f"{{{NS['html']}}}meta") if meta.get("name") == "viewport"]
            assert viewport.attrib["content"] == f"width={round(made.width)}, height={round(made.height)}"
            pictures = [image.attrib["href"] for image in page.iter(f"{{{NS['svg']}}}image")]
            assert len(pictures) == len(made.panels)
            for picture in pictures:
                Image.open(io.BytesIO(archive.read(f"OEBPS/{picture}"))).load()
            texts = [text.text for text in page.iter(f"{{{NS['svg']}}}text")]
            placed = [*(one for panel in made.panels for one in panel.words), *made.words]
            assert texts == [line for one in placed for line in one.block.lines]
            said = [paragraph.text for paragraph in page.iter(f"{{{NS['html']}}}p")]
            if index == 3:
                assert said == ["Fox & robot 3", "Rob <1>: HELP & RUN!", "Off stage"]
        nav = ElementTree.fromstring(archive.read("OEBPS/nav.xhtml"))
        assert len(list(nav.iter(f"{{{NS['html']}}}nav"))) == 2


def test_the_same_book_gives_the_same_files(epub, laid_out, backwards, tmp_path) -> None:
    write_epub(laid_out, tmp_path / "book.epub", 40)
    assert (tmp_path / "book.epub").read_bytes() == epub.read_bytes()
    write_epub(backwards, tmp_path / "he.epub", 36)
    with zipfile.ZipFile(tmp_path / "he.epub") as archive:
        assert b'page-progression-direction="rtl"' in archive.read("OEBPS/package.opf")
        assert b'dir="rtl"' in archive.read("OEBPS/page-001.xhtml")
