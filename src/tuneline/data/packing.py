"""Which examples share a row, so that almost no token of a row is padding."""

from bisect import bisect_left, insort
from collections.abc import Sequence


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of example indices with at most `capacity` tokens each: best fit, longest example first. The same lengths give the same rows."""
    too_long = [index for index, length in enumerate(lengths) if length > capacity]
    if too_long:
        raise ValueError(f"example {too_long[0]} has {lengths[too_long[0]]} tokens; a row holds {capacity}.")
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # free tokens and number of each row, sorted: the first that is large enough fits best
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        length = lengths[index]
        place = bisect_left(room, (length, 0))
        if place == len(room):
            free, row = capacity, len(rows)
            rows.append([])
        else:
            free, row = room.pop(place)
        rows[row].append(index)
        insort(room, (free - length, row))
    return rows
