"""Bodies of several parts: `multipart/related` uploads, taken apart as they arrive, and `multipart/mixed` batches."""

import re
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP

from tuneline.api.gcs.faults import invalid

_LINE_END = rb"\r?\n"
_HEADERS = rb"((?:[^\r\n]+\r?\n)*)\r?\n"


def boundary_of(content_type: str) -> bytes:
    """The text between the parts, as the request's header names it."""
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_param("boundary")
    if not isinstance(boundary, str) or not boundary:
        raise invalid(f"Content-Type: found {content_type!r}; expected a multipart type with its boundary.")
    return boundary.strip("'").encode("latin-1", "replace")  # some clients quote with apostrophes


class RelatedBody:
    """An upload of two parts: metadata, then media. The media is passed on and never kept.

    The media ends at the end of the body, not at the first line that looks like a boundary: gcsfs' boundary is short and always the same.
    """

    def __init__(self, boundary: bytes, *, max_metadata_bytes: int) -> None:
        self._boundary, self._max_metadata_bytes = boundary, max_metadata_bytes
        line = rb"--" + re.escape(boundary) + rb"[ \t]*"
        self._head = re.compile(rb"\s*" + line + _LINE_END + _HEADERS + rb"(.*?)(\r?\n)" + line + _LINE_END + _HEADERS, re.DOTALL)
        self._held = b""
        self._line_end: bytes | None = None
        self.metadata = b""
        self.media_type = ""

    def feed(self, content: bytes) -> bytes:
        """Take what has arrived; the media in it that is surely media."""
        self._held += content
        if self._line_end is None and not self._read_head():
            return b""
        kept = len(self._boundary) + 16  # the closing line, with what may stand around it
        media, self._held = self._held[:-kept], self._held[-kept:]
        return media

    def finish(self) -> bytes:
        """The last of the media, at the end of the body."""
        if self._line_end is None:
            raise invalid("multipart body: expected two parts, metadata and media, between the boundaries that Content-Type names.")
        closing = b"--" + self._boundary + b"--"
        held = self._held.rstrip(b"\r\n \t")
        if not held.endswith(closing):
            raise invalid("multipart body: it ends without the closing boundary.")
        return held.removesuffix(closing).removesuffix(self._line_end)

    def _read_head(self) -> bool:
        """Metadata and the media's headers, once they are there."""
        match = self._head.match(self._held)
        if match is None:
            if len(self._held) > self._max_metadata_bytes:
                raise invalid(f"multipart body: no second part in the first {self._max_metadata_bytes} bytes.")
            return False
        self.metadata, self._line_end = match[2], match[3]
        self.media_type = BytesParser(policy=HTTP).parsebytes(match[4]).get("content-type", "")
        self._held = self._held[match.end() :]
        return True


def parts_of(content_type: str, body: bytes) -> list[tuple[str, bytes]]:
    """The parts of a `multipart/mixed` body: content id and content."""
    boundary_of(content_type)
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n" + body)
    if not message.is_multipart():
        raise invalid("batch: the body has no parts between the boundaries that Content-Type names.")
    return [(str(part.get("content-id", "")), _content(part)) for part in message.iter_parts()]


def _content(part: Message) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""
