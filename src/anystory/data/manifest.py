"""Manifests: one record per line (JSONL) or row (Parquet), beside the files that they name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from anystory.data.reading import OpenMember
from anystory.data.records import SampleRecord
from anystory.data.table import SampleRow, SampleTable
from anystory.extras import need
from anystory.files import atomic_write
from anystory.input_files import is_hollow, refuse_special, why_invalid

__all__ = ["MANIFEST_SUFFIXES", "Manifest", "read_manifest", "write_manifest"]

MANIFEST_SUFFIXES = (".jsonl", ".parquet")

_SHOWN = 5
"""Most lines that one error names."""


class Manifest:
    """Samples of a manifest by index; their files lie beside it.

    Raises:
        ValueError: see `read_manifest`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.records = read_manifest(self.path)
        self.table = SampleTable.of(map(SampleRow.of, self.records))

    def __len__(self) -> int:
        return len(self.records)

    @property
    def groups(self) -> tuple[range, ...]:
        """One per sample: each has its own files."""
        return tuple(range(i, i + 1) for i in range(len(self.records)))

    def open_sample(self, index: int) -> tuple[SampleRecord, OpenMember]:
        """A sample's record and a reader of its files."""
        return self.records[index], self._read

    def _read(self, name: str) -> bytes:
        path = self.path.parent / name
        if not path.is_file():  # nor a folder, nor a pipe or device, which might never end
            raise FileNotFoundError(name)
        return path.read_bytes()


def read_manifest(path: str | Path) -> tuple[SampleRecord, ...]:
    """Read and check a manifest's records; no picture is opened.

    Args:
        path: `NAME.jsonl` (empty lines are skipped) or `NAME.parquet`.

    Raises:
        ValueError: another suffix, no samples, two samples with one key, or lines that are no records; the message
            names the lines.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    refuse_special(path)
    if path.exists() and is_hollow(path):
        raise ValueError(f"{path}: most of its {path.stat().st_size:,} bytes were never written: copy it again")
    rows = _read_parquet(path) if _is_parquet(path) else _read_lines(path)
    records, wrong, lines = [], [], {}
    for number, row in rows:
        try:
            record = SampleRecord.model_validate_json(row) if isinstance(row, str) else SampleRecord.model_validate(row)
        except ValidationError as error:
            wrong.append(f"line {number}: {why_invalid(error)}")
            continue
        if record.key in lines:
            wrong.append(f"line {number}: the key {record.key!r} is that of line {lines[record.key]} already")
            continue
        lines[record.key] = number
        records.append(record)
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise ValueError(f"{path} does not fit the format of samples: {'; '.join(wrong[:_SHOWN])}{more}")
    if not records:
        raise ValueError(f"{path} holds no samples")
    return tuple(records)


def write_manifest(records: Iterable[SampleRecord], path: str | Path) -> None:
    """Write records to `NAME.jsonl` or `NAME.parquet`, whole or not at all.

    Raises:
        ValueError: another suffix, or two records with one key.
    """
    path, records = Path(path), list(records)
    seen: set[str] = set()
    for record in records:
        if record.key in seen:
            raise ValueError(f"two samples have the key {record.key!r}: keys must be unique in a manifest")
        seen.add(record.key)
    if _is_parquet(path):
        need("pyarrow", "a Parquet manifest")
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.Table.from_pylist([record.model_dump() for record in records], schema=_parquet_schema())
        with atomic_write(path) as temporary:
            pyarrow.parquet.write_table(table, temporary)
        return
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(record.model_dump_json(exclude_defaults=True) + "\n" for record in records)


def _is_parquet(path: Path) -> bool:
    if path.suffix not in MANIFEST_SUFFIXES:
        raise ValueError(f"{path}: a manifest's name ends in {' or '.join(MANIFEST_SUFFIXES)}")
    return path.suffix == ".parquet"


def _read_lines(path: Path) -> list[tuple[int, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from None
    # Not splitlines: JSON strings may hold U+2028 and its like as they are.
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _read_parquet(path: Path) -> list[tuple[int, Any]]:
    need("pyarrow", "a Parquet manifest")
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except FileNotFoundError:
        raise
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a readable Parquet file: {error}") from None
    return [(number, _without_nulls(row)) for number, row in enumerate(rows, 1)]


def _without_nulls(value: Any) -> Any:
    """A row without its nulls: in a table, null means that a field is left out."""
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _parquet_schema() -> Any:
    import pyarrow

    text = pyarrow.string()
    reference = pyarrow.struct([("image", text), ("mask", text)])
    subject = pyarrow.struct([("name", text), ("mask", text), ("references", pyarrow.list_(reference))])
    columns = [("key", text), ("image", text), ("caption", text), ("subjects", pyarrow.list_(subject))]
    return pyarrow.schema([*columns, *((name, text) for name in ("place", "source", "licence", "split"))])
