"""`Range` of a download and `Content-Range` of a chunk (pure)."""

import re
from dataclasses import dataclass

from tuneline.api.gcs.faults import StorageFault, invalid


def read_range(header: str, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last; None for the whole object: no range, several, or one that is not understood."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if match is None or match.groups() == ("", "") or max(map(len, match.groups())) > 18:
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
    if last and first and int(last) < int(first):
        return None
    if start >= size:
        raise StorageFault(416, "requestedRangeNotSatisfiable", f"Request range not satisfiable: found bytes from {start} on; the object has {size}.")
    return start, end


@dataclass(frozen=True)
class Chunk:
    """What a request of a resumable upload brings."""

    start: int | None
    """Of its first byte; None when it only asks how much has arrived."""
    end: int | None
    """After its last byte; None when the sender does not know."""
    total: int | None
    """Of the whole object, if known."""


def read_chunk(header: str) -> Chunk:
    """`bytes 0-99/1000`, `bytes 0-99/*`, `bytes */1000`, `bytes */*`; no header for the whole object at once."""
    if not header:
        return Chunk(0, None, None)
    match = re.fullmatch(r"bytes (?:(\d{1,18})-(\d{1,18}|\*)|\*)/(\d{1,18}|\*)", header.strip())
    if match is None:
        raise invalid(f"Content-Range: found {header!r}; expected 'bytes FIRST-LAST/TOTAL' or 'bytes */TOTAL', with * for an unknown TOTAL.")
    first, last, whole = match.groups()
    start = None if first is None else int(first)
    end = int(last) + 1 if last not in (None, "*") else None
    total = None if whole == "*" else int(whole)
    if (start is not None and end is not None and end <= start) or (end is not None and total is not None and end > total):
        raise invalid(f"Content-Range: {header!r} contradicts itself.")
    return Chunk(start, end, total)
