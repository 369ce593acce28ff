"""How large an image is, from the header of its file: it is never decoded."""

from __future__ import annotations

import struct
from collections.abc import Callable

_NO_FRAME = {0xC4, 0xC8, 0xCC}  # of the markers 0xC0 to 0xCF of a JPEG, those that begin none
_BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a length


def pixels(prefix: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG, JPEG, GIF, WebP or BMP that begins so; None for another, or if the header does not say."""
    for magic, read in _FORMATS:
        if prefix.startswith(magic):
            try:
                width, height = read(prefix)
            except (struct.error, _Unknown):
                return None
            return (width, height) if width > 0 and height > 0 else None
    return None


class _Unknown(Exception):
    """The header is not whole, or of a kind that has no size."""


def _png(prefix: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", prefix, 16)
    return width, height


def _gif(prefix: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", prefix, 6)
    return width, height


def _bmp(prefix: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<ii", prefix, 18)
    return width, abs(height)  # below 0: its rows begin at the top


def _webp(prefix: bytes) -> tuple[int, int]:
    kind = prefix[8:16]
    if kind == b"WEBPVP8 ":
        width, height = struct.unpack_from("<HH", prefix, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"WEBPVP8L":
        [bits] = struct.unpack_from("<I", prefix, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"WEBPVP8X" and len(prefix) >= 30:
        return int.from_bytes(prefix[24:27], "little") + 1, int.from_bytes(prefix[27:30], "little") + 1
    raise _Unknown


def _jpeg(prefix: bytes) -> tuple[int, int]:
    at = 2
    while True:
        start, marker = struct.unpack_from(">BB", prefix, at)
        if start != 0xFF or marker in (0xD9, 0xDA):  # the end, or the picture itself, and no frame before it
            raise _Unknown
        if marker == 0xFF:  # a byte that fills
            at += 1
        elif marker in _BARE:
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            height, width = struct.unpack_from(">HH", prefix, at + 5)
            return width, height
        else:
            [length] = struct.unpack_from(">H", prefix, at + 2)
            at += 2 + length


_FORMATS: tuple[tuple[bytes, Callable[[bytes], tuple[int, int]]], ...] = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"\xff\xd8", _jpeg),
    (b"GIF8", _gif),
    (b"RIFF", _webp),
    (b"BM", _bmp),
)
