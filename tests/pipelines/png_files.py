"""PNGs taken apart and put together, to spoil them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

__all__ = ["chunk", "chunks", "png"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: str, data: bytes, crc: int | None = None) -> bytes:
    """One chunk, with its own check sum or a wrong one."""
    body = kind.encode("ascii") + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body) if crc is None else crc)


def chunks(png: bytes) -> dict[str, bytes]:
    """{kind: data} of a PNG's chunks; of several of one kind the last."""
    found, at = {}, len(SIGNATURE)
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        found[png[at + 4 : at + 8].decode("ascii")] = png[at + 8 : at + 8 + length]
        at += length + 12
    return found


def png(text: Iterable[bytes] = (), behind: Iterable[bytes] = ()) -> bytes:
    """One grey pixel, with chunks before it and behind it."""
    header = chunk("IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return b"".join([SIGNATURE, header, *text, chunk("IDAT", zlib.compress(b"\0\x80")), *behind, chunk("IEND", b"")])
