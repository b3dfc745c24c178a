"""Colour profiles (ICC version 2), made by hand, and what they mean in plain arithmetic."""

from __future__ import annotations

import struct

import numpy as np

P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
"""XYZ of red, green and blue of Display P3, relative to D50."""
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
"""The same of sRGB."""
SWAPPED = SRGB[::-1]
"""Red and blue have each other's colours: nobody can miss that such a profile was left unread."""
GAMMA = 563 / 256


def rgb_profile(primaries: tuple[tuple[float, float, float], ...] = P3, name: str = "test") -> bytes:
    """A profile for RGB with these primaries and a gamma of `GAMMA`."""
    tags = {f"{letter}XYZ": _xyz(*xyz) for letter, xyz in zip("rgb", primaries, strict=True)}
    return _profile(b"RGB ", tags | {f"{letter}TRC": _curve() for letter in "rgb"}, name)


def grey_profile(gamma: float) -> bytes:
    """A profile for greys."""
    return _profile(b"GRAY", {"kTRC": _curve(gamma)}, "grey")


def cmyk_profile() -> bytes:
    """A profile for printing inks that are all grey: L* = 100 (1 - k) (1 - the most of c, m and y / 2)."""
    identity = bytes(range(256))
    inks = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    lab = b"".join(bytes([round(255 * (1 - k) * (1 - max(c, m, y) / 2)), 128, 128]) for c, m, y, k in inks)
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    return _profile(b"CMYK", {"A2B0": table + identity * 4 + lab + identity * 3}, "inks", b"prtr", b"Lab ")


def in_srgb(rgb: np.ndarray, primaries: tuple[tuple[float, float, float], ...] = P3) -> np.ndarray:
    """What uint8 (…, 3) of such a profile is in sRGB, as floats 0…255."""
    linear = (rgb / 255.0) ** GAMMA @ np.array(primaries) @ np.linalg.inv(np.array(SRGB))
    return encoded(linear)


def encoded(linear: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] as sRGB, 0…255."""
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _profile(
    space: bytes, tags: dict[str, bytes], name: str, kind: bytes = b"mntr", connection: bytes = b"XYZ "
) -> bytes:
    text = name.encode() + b"\0"
    described = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(4 + 4 + 2 + 1 + 67)
    tags = {"desc": described, "cprt": b"text\0\0\0\0nobody\0", "wtpt": _xyz(0.9642, 1.0, 0.8249), **tags}
    offset, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for sign, data in tags.items():
        table += sign.encode() + struct.pack(">II", offset + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4xI", offset + len(body), 0x02400000) + kind + space + connection
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(0.9642, 1.0, 0.8249)
    return header.ljust(128, b"\0") + table + body


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*values)


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _curve(gamma: float = GAMMA) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
