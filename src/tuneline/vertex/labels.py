"""What labels may look like: Vertex's rules. Pure."""

import re
from collections.abc import Iterator, Mapping

MAX_LABELS = 64
_KEY = re.compile(r"(?![\d_-])[\w-]{1,63}")
_VALUE = re.compile(r"[\w-]{0,63}")


def label_problems(labels: Mapping[str, str], *, where: str = "labels") -> Iterator[str]:
    """Everything that is wrong with labels, each with `where` they came from. Letters of all scripts are fine, as long as they are lower-case."""
    if len(labels) > MAX_LABELS:
        yield f"{where}: found {len(labels)}; expected at most {MAX_LABELS}."
    for key, value in labels.items():
        if not _KEY.fullmatch(key) or key != key.lower():
            yield f"{where}: found the key {key[:80]!r}; expected up to 63 lower-case letters, digits, '-' and '_', a letter first."
        elif not _VALUE.fullmatch(value) or value != value.lower():
            yield f"{where}: found the value {value[:80]!r} of {key!r}; expected up to 63 lower-case letters, digits, '-' and '_'."
