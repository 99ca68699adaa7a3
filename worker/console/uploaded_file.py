"""The one file of a form, piece by piece as it arrives: nothing but a few pieces is ever in memory."""

from __future__ import annotations

from email.message import Message
from typing import BinaryIO

from python_multipart.multipart import MultipartParser, parse_options_header

#: The name of the form's field.
FIELD = "file"
_MOST_HEADER_BYTES = 8_192


class TooLarge(ValueError):
    """The file is larger than it may be."""


class UploadedFile:
    """The file of a `multipart/form-data` body."""

    def __init__(self, content_type: str, most_bytes: int) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise ValueError("no form with a file")
        self.name: str | None = None  #: as the browser says it, once it has arrived
        self._left = most_bytes
        self._pieces: list[bytes] = []
        self._is_file = self._ended = False
        self._header_name = self._header_value = b""
        self._headers = Message()
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_name_goes_on,
                "on_header_value": self._header_value_goes_on,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        """Take some more of the body. Raises TooLarge; ValueError if it is malformed."""
        self._left -= len(chunk)
        if self._left < 0:
            raise TooLarge("the upload is too large")
        self._parser.write(chunk)

    def write_to(self, target: BinaryIO) -> None:
        """Write what has arrived since the last time."""
        target.writelines(self._pieces)
        self._pieces.clear()

    def end(self) -> None:
        """Raise ValueError unless the body has come to its end."""
        if not self._ended:
            raise ValueError("the upload broke off")

    def _part_begins(self) -> None:
        self._headers = Message()
        self._is_file = False

    def _header_name_goes_on(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]
        self._require_short_headers()

    def _header_value_goes_on(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]
        self._require_short_headers()

    def _require_short_headers(self) -> None:
        if len(self._header_name) + len(self._header_value) > _MOST_HEADER_BYTES:
            raise ValueError("a header of a part is too long")

    def _header_ends(self) -> None:
        self._headers[self._header_name.decode("latin-1")] = self._header_value.decode("latin-1")
        self._header_name = self._header_value = b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", ""))
        if options.get(b"name") == FIELD.encode() and b"filename" in options and self.name is None:
            self._is_file = True
            self.name = options[b"filename"].decode("latin-1").encode("latin-1", "replace").decode("utf-8", "replace")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._pieces.append(bytes(data[start:end]))

    def _end(self) -> None:
        self._ended = True
