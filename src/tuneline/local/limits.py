"""Limits of a container on memory and processors, and the spellings that people and KFP use for them. Pure."""

import math
import re
from dataclasses import dataclass

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)")
_BINARY = {f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", start=1)}
_DECIMAL = {letter: 1000**power for power, letter in enumerate("KMGTPE", start=1)}
_LOWER_CASE = {letter: 1024**power for power, letter in enumerate("kmgt", start=1)}  # as Docker and Podman read them
_MEMORY_UNITS = {"": 1, "b": 1, **_BINARY, **_DECIMAL, **_LOWER_CASE}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a container may use at most; 0 for no limit."""

    memory_bytes: int = 0
    cpus: float = 0.0

    def over(self, other: "Limits") -> "Limits":
        """These limits, and the other's where these have none."""
        return Limits(memory_bytes=self.memory_bytes or other.memory_bytes, cpus=self.cpus or other.cpus)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Limits as a template writes them; the texts may have placeholders."""

    memory: str = ""
    cpus: str = ""


def memory_bytes(text: str) -> int:
    """`8Gi`, `64M` (a million), `8g` (1,024 to the third) or bytes; a `ValueError` tells what was expected."""
    match = _QUANTITY.fullmatch(text.strip())
    size = int(float(match[1]) * _MEMORY_UNITS[match[2]]) if match and match[2] in _MEMORY_UNITS else 0
    if size < 1:
        raise ValueError(f"{text!r} is not a size of memory like 8Gi, 512Mi or 8g")
    return size


def cpu_count(text: str) -> float:
    """`2`, `1.5` or `500m`, which is half a processor; a `ValueError` tells what was expected."""
    match = _QUANTITY.fullmatch(text.strip())
    count = float(match[1]) / (1000 if match[2] == "m" else 1) if match and match[2] in ("", "m") else 0.0
    if not 0 < count < math.inf:
        raise ValueError(f"{text!r} is not a number of processors like 2, 1.5 or 500m")
    return count
