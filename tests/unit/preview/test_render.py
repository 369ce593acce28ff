"""What is shown of files: of each kind, of those that are not what they are called, and of any bytes at all."""

from __future__ import annotations

import codecs
import json
import time
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridkeep.preview.render import PREFIX, Preview, preview_of
from gridkeep.preview.table import CELL, COLUMNS, ROWS


def shown(content: bytes, media: str = "text/plain", size: int | None = None) -> Preview:
    """Of a file that begins with that content; `size` where it goes on."""
    return preview_of(content[:PREFIX], size=len(content) if size is None else size, media=media)


# ----------------------------------------------------------------------------------------------------------------- text


def test_text_is_shown_as_it_is() -> None:
    content = "Grüße, 世界 \U0001f600\r\n\ttab\x1b[31m<script>".encode()
    assert shown(content) == Preview("text", text=content.decode())
    assert shown(b"") == Preview("text", text="")
    assert shown(b"{}", "application/json") == Preview("json", text="{}")
    assert shown(b"<svg onload=x()>", "image/svg+xml").kind == "text"  # its source
    assert shown(b"print(1)", "application/octet-stream").kind == "text"  # a name that says nothing


def test_a_long_text_is_cut_between_two_characters() -> None:
    content = "é".encode() * PREFIX  # two bytes each, and one before them
    found = shown(b"x" + content)
    assert found.cut and found.text is not None
    assert found.text == "x" + "é" * ((PREFIX - 1) // 2)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_says_how_it_is_written(encoding: str) -> None:
    content = "Größe;10\n".encode(encoding)
    assert shown(content).text == "Größe;10\n"
    assert shown(content[:-1] + b"x" * PREFIX).cut
    big = codecs.BOM_UTF16_BE + "é".encode("utf-16-be")
    assert shown(big).text == "é"


def test_an_old_encoding_loses_its_accents_only() -> None:
    found = shown("Die Größe der Datei, in Bytes gezählt".encode("latin-1"))
    assert found.text == "Die Gr\ufffd\ufffde der Datei, in Bytes gez\ufffdhlt"


@pytest.mark.parametrize(
    "content",
    [b"\0", b"text\0", zlib.compress(b"abc" * 99), b"\xff\xfe\0\0x\0\0\0", bytes(PREFIX)],
)
@pytest.mark.parametrize("media", ["text/plain", "text/csv", "application/json", "application/zip"])
def test_what_is_no_text_is_not_shown(content: bytes, media: str) -> None:
    found = shown(content, media)
    assert (found.kind, found.text, found.rows) == ("none", None, None)
    assert found.reason


# --------------------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_table_of_any_delimiter(delimiter: str) -> None:
    text = '"a ""b""",c\r\n\r\n1,"2\n3"\r\n'.replace(",", delimiter)
    assert shown(text.encode(), "text/csv") == Preview("table", rows=[['a "b"', "c"], ["1", "2\n3"]])


def test_a_table_is_bounded_in_every_way() -> None:
    assert shown(b"", "text/csv") == Preview("table", rows=[])
    for rows, cut in ((ROWS, False), (ROWS + 1, True), (9 * ROWS, True)):
        found = shown(b"1,2\n" * rows, "text/csv")
        assert (len(found.rows or []), found.cut) == (min(rows, ROWS), cut)
    wide = shown(b",".join([b"1"] * 5000) + b"\n", "text/csv")
    assert (len((wide.rows or [[]])[0]), wide.cut) == (COLUMNS, True)
    deep = shown(b"a," + b"x" * 5000 + b"\n", "text/csv")
    assert (deep.rows, deep.cut) == ([["a", "x" * CELL]], True)


def test_the_row_that_is_cut_in_two_is_left_out() -> None:
    content = b"name,value\n" + b"x,%s\n" % (b"1" * 900) * 100_000
    found = shown(content, "text/csv")
    assert found.cut and found.rows is not None
    assert found.rows[0] == ["name", "value"] and len(found.rows) == PREFIX // 903 + 1
    assert {len(row[1]) for row in found.rows[1:]} == {900}


def test_a_quote_that_never_ends_is_one_cell() -> None:
    found = shown(b'a,"' + b"x\n" * PREFIX, "text/csv")
    assert found.cut and found.rows == [["a", ("x\n" * CELL)[:CELL]]]


# --------------------------------------------------------------------------------------------------------------- images


def jpeg(width: int, height: int, *before: bytes) -> bytes:
    frame = b"\xff\xc2\x00\x11\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return b"\xff\xd8" + b"".join(before) + frame + b"\x03" + bytes(20)


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes(50)


APP1 = b"\xff\xe1\xea\x60" + bytes(59_998)
IMAGES = {
    "png": png(640, 480),
    "gif": b"GIF89a\x80\x02\xe0\x01" + bytes(50),
    "bmp": b"BM"
    + bytes(16)
    + (640).to_bytes(4, "little")
    + (-480).to_bytes(4, "little", signed=True)
    + bytes(50),
    "jpeg": jpeg(640, 480),
    "jpeg with a thumbnail": jpeg(640, 480, APP1, b"\xff\xff\xff\xdb\x00\x03\x00", b"\xff\xd0"),
    "webp": b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\x80\x02\xe0\x01" + bytes(50),
    "webp without loss": b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f"
    + (639 | 479 << 14).to_bytes(4, "little")
    + bytes(50),
    "webp with more": b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0\x7f\x02\0\xdf\x01\0" + bytes(50),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_says_its_size_and_is_left_to_the_browser(kind: str) -> None:
    found = shown(IMAGES[kind], "image/png")
    assert found == Preview("image", width=640, height=480, drawn=True)
    assert not shown(IMAGES[kind], "application/octet-stream").drawn


@pytest.mark.parametrize("kind", IMAGES)
def test_a_header_that_is_not_whole_says_nothing(kind: str) -> None:
    for end in range(24 if kind != "jpeg with a thumbnail" else 60_010):
        if not shown(IMAGES[kind][:end], "image/png").drawn:
            continue
        assert end >= 10  # where the size is known, it is right
        assert shown(IMAGES[kind][:end], "image/png").width == 640


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<script>alert(1)</script>",
        b"GIF8",
        png(0, 5),
        b"\xff\xd8" + b"\xff\xe1\x00\x00" * 30_000,  # lengths that lead nowhere
        b"\xff\xd8\xff\xd9" + jpeg(1, 1)[2:],
        b"\xff\xd8" + b"\xff" * PREFIX,
        b"\xff\xd8" + APP1 * 3 + jpeg(1, 1)[2:],  # its frame lies further on
        b"RIFF\0\0\0\0WAVEfmt " + bytes(50),
    ],
)
def test_what_is_no_image_is_not_given_to_a_browser(content: bytes) -> None:
    assert not shown(content, "image/png").drawn
    assert shown(content, "image/png").reason


def test_an_image_too_large_to_draw_says_so() -> None:
    bomb = shown(png(100_000, 100_000), "image/png")
    assert (bomb.kind, bomb.width, bomb.height, bomb.drawn) == ("image", 100_000, 100_000, False)
    assert bomb.reason == "It has 100,000 × 100,000 pixels, too many for a browser to draw."
    heavy = shown(png(10, 10), "image/png", size=10**9)
    assert not heavy.drawn and "1,000,000,000 bytes" in (heavy.reason or "")


@pytest.mark.parametrize(
    ("media", "kind"), [("video/mp4", "video"), ("audio/flac", "audio"), ("application/pdf", "pdf")]
)
def test_what_browsers_play_a_part_at_a_time_is_left_to_them(media: str, kind: str) -> None:
    assert shown(b"\0" * 99, media, size=10**12) == Preview(kind, drawn=True)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------------------- hostile

MEDIA = ["text/plain", "text/csv", "application/json", "image/png", "video/mp4", "application/zip", "", "x"]


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=400),
    st.sampled_from(["", *(image[:40] for image in IMAGES.values())]),
    st.sampled_from(MEDIA),
)
def test_any_bytes_have_some_preview(rest: bytes, magic: bytes | str, media: str) -> None:
    content = (magic if isinstance(magic, bytes) else b"") + rest
    for size in (len(content), len(content) + 10**10):
        found = preview_of(content, size=size, media=media)
        json.dumps([found.text, found.rows], ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"[" * PREFIX,
        b'{"a":' * PREFIX,
        b'"' * PREFIX,
        b'","' * PREFIX,
        b"," * PREFIX,
        b"\n" * PREFIX,
        b"\r" * PREFIX,
        b"\xc3" * PREFIX,
        "\U0001f600".encode() * PREFIX,
        b'a,"' + b"b" * PREFIX,
        b"\xff\xd8" + b"\xff\xd0" * PREFIX,
    ],
    ids=lambda content: repr(content[:12]),
)
@pytest.mark.parametrize("media", MEDIA[:4])
def test_hostile_files_take_little_time_and_memory(content: bytes, media: str) -> None:
    prefix, best = content[:PREFIX], 9.9
    for _ in range(3):
        begun = time.process_time()
        preview_of(prefix, size=50 * 10**9, media=media)
        best = min(best, time.process_time() - begun)
    assert best < 0.3  # s; some ms on a quiet machine
    tracemalloc.start()
    preview_of(prefix, size=50 * 10**9, media=media)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 24 * PREFIX
