"""Receives the one file of a form (multipart/form-data), in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gridkeep.errors import GridError

_LONGEST_HEADERS = 16_384  # bytes of one part's headers


@dataclass
class FileOfForm:
    """Give it the body in pieces by `feed`, then `end` it. What the part named `file` holds goes to `write`."""

    content_type: str
    write: Callable[[bytes], None]
    filename: str | None = None  # of the part named `file`, once it has come
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _name: bytes = b""
    _value: bytes = b""
    _size: int = 0
    _taken: bool = False
    _ended: bool = False

    def __post_init__(self) -> None:
        kind, options = parse_options_header(self.content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise GridError("A form (multipart/form-data) with a part `file` is expected.")
        callbacks: dict[str, Any] = {
            "on_part_begin": self._begin,
            "on_header_field": self._on_name,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_end": self._on_end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError as error:
            raise GridError(f"The form cannot be read: {error}.") from None

    def feed(self, piece: bytes) -> None:
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise GridError(f"The form cannot be read: {error}.") from None

    def end(self) -> str:
        """The file's name. Raises GridError when there was no such part, or the form is cut off."""
        if not self._ended:
            raise GridError("The form is cut off.")
        if self.filename is None:
            raise GridError("The form has no part `file`.")
        return self.filename

    def _begin(self) -> None:
        self._headers, self._size, self._taken = {}, 0, False

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += self._some(data[start:end])

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += self._some(data[start:end])

    def _some(self, data: bytes) -> bytes:
        self._size += len(data)
        if self._size > _LONGEST_HEADERS:
            raise GridError("The headers of a part of the form are too long.")
        return data

    def _on_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if options.get(b"name") == b"file" and self.filename is None:
            self._taken = True
            self.filename = options.get(b"filename", b"file").decode(errors="replace")

    def _on_end(self) -> None:
        self._ended = True

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._taken:
            self.write(data[start:end])
