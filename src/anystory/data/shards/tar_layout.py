"""The layout of a sample in a tar file: `KEY.json` and its pictures, one after another, all named `KEY.…`.

This is the webdataset library's layout: a member's name up to its first dot is the sample's key.

    fox-1.json  fox-1.image.jpg  fox-1.s0.mask.png  fox-1.s0.r0.png  fox-1.s0.r0.mask.png  fox-1.s1.mask.png  …
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pydantic import ValidationError

from anystory.data.bad_samples import BadSample
from anystory.data.reading import OpenMember
from anystory.data.records import SampleRecord, SampleReference, SampleSubject
from anystory.input_files import why_invalid

__all__ = ["TarSample", "add_member", "in_shard", "read_tar_sample", "record_of", "tar_samples"]

SUFFIXES = (".png", ".jpg", ".webp", ".tif", ".npy", ".avif", ".bmp")
_SAME = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".tiff": ".tif"}


@dataclass(frozen=True)
class TarSample:
    """Where a sample lies in its tar file: its members' headers and contents are bytes offset … offset + size."""

    key: str
    offset: int
    size: int


def in_shard(record: SampleRecord) -> tuple[SampleRecord, dict[str, str]]:
    """The record with its members' names, and {member: the file that it is made of} in their order.

    Raises:
        BadSample: a file whose suffix is no picture's.
    """
    key, files = record.key, {}

    def name(file: str, stem: str) -> str:
        member = f"{key}.{stem}{_suffix(file)}"
        files[member] = file
        return member

    image = name(record.image, "image")
    subjects = []
    for i, subject in enumerate(record.subjects):
        mask = name(subject.mask, f"s{i}.mask") if subject.mask is not None else None
        references = tuple(
            SampleReference(
                image=name(photo.image, f"s{i}.r{j}"),
                mask=name(photo.mask, f"s{i}.r{j}.mask") if photo.mask is not None else None,
            )
            for j, photo in enumerate(subject.references)
        )
        subjects.append(SampleSubject(name=subject.name, mask=mask, references=references))
    place = name(record.place, "place") if record.place is not None else None
    return record.model_copy(update={"image": image, "subjects": tuple(subjects), "place": place}), files


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Append a file without times or owners: the same samples give the same tar file."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tar.addfile(info, io.BytesIO(data))


def tar_samples(path: Path) -> Iterator[TarSample]:
    """The samples of a tar file in their order, from its headers alone.

    Raises:
        ValueError: not a whole tar file, members of one sample that do not lie together, or two samples with one key.
    """
    seen: dict[str, str] = {}
    key, begin, end = "", 0, 0
    try:
        with tarfile.open(path, mode="r:") as tar:
            for info in tar:
                folder, stem = _place(info.name, path)
                if not _has_content(info) or not stem:
                    continue
                if stem in seen and seen[stem] != folder:
                    raise ValueError(f"{path}: two samples have the key {stem!r}, in {seen[stem]} and in {folder}")
                if stem != key:
                    if key:
                        yield TarSample(key, begin, end - begin)
                    if stem in seen:
                        raise ValueError(f"{path}: the members of {stem!r} do not lie together")
                    seen[stem] = folder
                    key, begin = stem, info.offset
                end = tar.offset
            _check_end(tar, path)
    except tarfile.TarError as error:
        raise ValueError(f"{path} is not a whole tar file ({error}): write or copy it again") from None
    if key:
        yield TarSample(key, begin, end - begin)


def read_tar_sample(file: BinaryIO, sample: TarSample) -> tuple[SampleRecord, OpenMember]:
    """A sample's record and a reader of its members, by one read of its open tar file.

    Raises:
        BadSample: the bytes are no members of a tar file, or the record is not there or wrong.
    """
    file.seek(sample.offset)
    block = file.read(sample.size)
    if len(block) < sample.size:
        raise BadSample("missing_file", f"{file.name} ends before the sample does: it changed while it was open")
    members = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(block), mode="r:") as tar:
            for info in tar:
                content = tar.extractfile(info) if _has_content(info) else None
                if content is not None:
                    members[PurePosixPath(info.name).name] = content.read()
    except tarfile.TarError as error:
        raise BadSample("bad_record", f"its bytes in the shard are no members of a tar file ({error})") from None
    return record_of(sample.key, members)


def record_of(key: str, members: dict[str, bytes]) -> tuple[SampleRecord, OpenMember]:
    """A sample's record and a reader of its members.

    Raises:
        BadSample: no `KEY.json`, one that does not fit, or one of another key.
    """
    data = members.get(f"{key}.json")
    if data is None:
        raise BadSample("bad_record", f"there is no member {key}.json")
    try:
        record = SampleRecord.model_validate_json(data)
    except ValidationError as error:
        raise BadSample("bad_record", f"{key}.json does not fit: {why_invalid(error)}") from None
    if record.key != key:
        raise BadSample("bad_record", f"{key}.json has the key {record.key!r}")
    return record, members.__getitem__


def _has_content(info: tarfile.TarInfo) -> bool:
    """Whether a member is a plain file. Sparse ones do not count: a few bytes may hold terabytes of zeros."""
    return info.isfile() and not info.issparse()


def _place(member: str, tar: Path) -> tuple[str, str]:
    """(folder in the tar file, key) of a member."""
    try:
        member.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{tar}: the name {member!r} is not UTF-8") from None
    place = PurePosixPath(member)
    return str(place.parent), place.name.partition(".")[0]


def _check_end(tar: tarfile.TarFile, path: Path) -> None:
    """Check that `tar`, which has been read to its end, has an end mark there: tarfile also stops at a damaged header.

    Raises:
        ValueError: it has none.
    """
    assert tar.fileobj is not None, "it is open"
    tar.fileobj.seek(tar.offset)
    mark = tar.fileobj.read(tarfile.BLOCKSIZE)
    if len(mark) < tarfile.BLOCKSIZE:
        raise ValueError(f"{path} is cut short: write or copy it again")
    if any(mark):
        raise ValueError(f"{path} is damaged at byte {tar.offset}: write or copy it again")


def _suffix(file: str) -> str:
    suffix = PurePosixPath(file).suffix.lower()
    suffix = _SAME.get(suffix, suffix)
    if suffix not in SUFFIXES:
        raise BadSample("bad_record", f"{file}: a picture in a shard ends in one of {' '.join(SUFFIXES)}")
    return suffix
