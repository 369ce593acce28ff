"""Bytes as text, if they are any."""

from __future__ import annotations

import codecs

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_STRANGE = 0.1  # so much of a text may be no UTF-8: letters with accents in an old encoding, not a picture


def text_of(prefix: bytes, *, cut: bool) -> str | None:
    """The text that begins so, with U+FFFD for what is none; None for what is no text. With `cut` a character may be cut in
    two at the end, and is left out."""
    encoding = next((name for mark, name in _MARKS if prefix.startswith(mark)), "utf-8")
    text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(prefix, final=not cut)
    if "\0" in text or text.count("\ufffd") > _STRANGE * len(text):
        return None
    return text
