"""A file at a glance: which kind of thing it is, and as much of it as fits.

Files are hostile, so nothing here is done in proportion to what a file claims to be: at most `PREFIX` bytes are looked at,
nothing is unpacked, parsed in depth or drawn, and what a browser is to draw by itself is said to be too large for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gridkeep.preview.images import pixels
from gridkeep.preview.table import rows_of
from gridkeep.preview.text import text_of

PREFIX = 128 * 1024  # bytes of a file that are looked at; no cell of a table can be too long for `csv` then
_PIXELS = 50_000_000  # of an image that a browser may draw: 200 MB of its memory
_IMAGE = 64 * 2**20  # bytes of such a file

_IMAGES = {"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp"}
_TABLES = {"text/csv", "text/tab-separated-values"}
_BY_BROWSERS: dict[Kind, set[str]] = {  # a part at a time, as they need it
    "video": {"video/mp4", "video/webm", "video/ogg"},
    "audio": {"audio/mpeg", "audio/ogg", "audio/wav", "audio/x-wav", "audio/flac", "audio/webm", "audio/mp4"},
    "pdf": {"application/pdf"},
}

Kind = Literal["text", "json", "table", "image", "video", "audio", "pdf", "none"]


@dataclass(frozen=True, slots=True)
class Preview:
    """`cut`: there is more than is shown. `drawn`: a browser may have the file to show it by itself. `reason`: why there is
    nothing to see."""

    kind: Kind
    cut: bool = False
    text: str | None = None
    rows: list[list[str]] | None = None
    width: int | None = None
    height: int | None = None
    drawn: bool = False
    reason: str | None = None


def preview_of(prefix: bytes, *, size: int, media: str) -> Preview:
    """Of a file of `size` bytes that begins with `prefix` (its first PREFIX bytes, or all), and whose name says that it is
    of the type `media`."""
    for kind, types in _BY_BROWSERS.items():
        if media in types:
            return Preview(kind, drawn=True)
    if media in _IMAGES:
        return _image(prefix, size)
    cut = len(prefix) < size
    text = text_of(prefix, cut=cut)
    if text is None:
        return Preview("none", reason="It is no text, and of no kind that is shown.")
    if media in _TABLES:
        rows, fewer = rows_of(text, cut=cut)
        return Preview("table", cut=cut or fewer, rows=rows)
    return Preview("json" if media == "application/json" else "text", cut=cut, text=text)


def _image(prefix: bytes, size: int) -> Preview:
    found = pixels(prefix)
    if found is None:
        return Preview("none", reason="Its first bytes are not those of an image that is shown.")
    width, height = found
    if width * height > _PIXELS:
        reason = f"It has {width:,} × {height:,} pixels, too many for a browser to draw."
    elif size > _IMAGE:
        reason = f"It has {size:,} bytes, too many for a browser to draw."
    else:
        return Preview("image", width=width, height=height, drawn=True)
    return Preview("image", width=width, height=height, reason=reason)
