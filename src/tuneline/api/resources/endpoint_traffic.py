"""Which of an endpoint's models answers a request: percentages by deployed model. Pure."""

import itertools
from collections.abc import Collection, Mapping

from tuneline.api.faults import invalid
from tuneline.vertex.traffic import NEW, WHOLE, share_out


def checked(split: Mapping[str, int], ids: Collection[str]) -> dict[str, int]:
    """The split, if it shares 100 percent among deployed models; an empty one stops all traffic."""
    problems = [f"trafficSplit: {key!r} is no deployed model; expected {', '.join(ids) or 'none'}." for key in split if key not in ids]
    problems += [f"trafficSplit.{key}: found {share}; expected a percentage from 0 to {WHOLE}." for key, share in split.items() if not 0 <= share <= WHOLE]
    if split and sum(split.values()) != WHOLE:
        problems.append(f"trafficSplit: the percentages make {sum(split.values())}; expected {WHOLE}.")
    if problems:
        raise invalid(*problems)
    return {key: share for key, share in split.items() if share}


def with_new(split: Mapping[str, int], asked: Mapping[str, int], new_id: str, ids: Collection[str]) -> dict[str, int]:
    """The split after a model was deployed beside `ids`. The first one gets all traffic unless something else is asked."""
    if not asked:
        return dict(split) if ids else {new_id: WHOLE}
    given = checked({NEW if key == new_id else key: share for key, share in asked.items()}, [*ids, NEW])
    return {new_id if key == NEW else key: share for key, share in given.items()}


def without(split: Mapping[str, int], gone: Collection[str]) -> dict[str, int]:
    """The split when models have gone: the others share what was theirs, in proportion."""
    left = {key: share for key, share in split.items() if key not in gone}
    return share_out(left, WHOLE) if any(left.values()) else {}


def chosen(split: Mapping[str, int], draw: float) -> str:
    """The model that answers; `draw` is a random number from 0 up to, and without, 1."""
    marks = itertools.accumulate(split.values())
    return next(key for key, mark in zip(split, marks, strict=True) if draw * sum(split.values()) < mark)
