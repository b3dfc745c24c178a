"""How a sample lies in a tar file: `KEY.json` and its pictures, one after another, all named `KEY.…`.

This is the layout of the webdataset library: what stands before the first dot of a member's name is the sample's key.

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

from anystory.data.bad import BadSample
from anystory.data.reading import OpenMember
from anystory.data.records import ReferenceRecord, SampleRecord, SubjectRecord, why_invalid

__all__ = ["TarSample", "add_member", "in_shard", "parse_block", "record_of", "tar_samples"]

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
            ReferenceRecord(
                image=name(photo.image, f"s{i}.r{j}"),
                mask=name(photo.mask, f"s{i}.r{j}.mask") if photo.mask is not None else None,
            )
            for j, photo in enumerate(subject.references)
        )
        subjects.append(SubjectRecord(name=subject.name, mask=mask, references=references))
    place = name(record.place, "place") if record.place is not None else None
    return record.model_copy(update={"image": image, "subjects": tuple(subjects), "place": place}), files


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Append a file that depends on its name and content alone: the same samples give the same tar file."""
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


def parse_block(block: bytes) -> dict[str, bytes]:
    """A sample's members {name: content} from its bytes.

    Raises:
        BadSample: these are no members of a tar file.
    """
    members = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(block), mode="r:") as tar:
            for info in tar:
                file = tar.extractfile(info) if _has_content(info) else None
                if file is not None:
                    members[PurePosixPath(info.name).name] = file.read()
    except tarfile.TarError as error:
        raise BadSample("bad_record", f"its bytes in the shard are no members of a tar file ({error})") from None
    return members


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


def read_block(file: BinaryIO, sample: TarSample) -> bytes:
    """A sample's bytes from its open tar file."""
    file.seek(sample.offset)
    return file.read(sample.size)


def _has_content(info: tarfile.TarInfo) -> bool:
    """Whether a member is a plain file. A sparse one is none: terabytes of zeros would fit into a few bytes."""
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
    """Make sure that `tar`, which has been gone through, ended with its end mark: to tarfile a damaged header is one.

    Raises:
        ValueError: it did not.
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
