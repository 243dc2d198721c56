"""How the models of an endpoint share its traffic, in percent by deployed model. Pure."""

from collections.abc import Mapping

WHOLE = 100
NEW = "0"
"""Stands, in a request, for the model that is just being deployed."""


def share_out(split: Mapping[str, int], total: int) -> dict[str, int]:
    """`total` percent in the proportions of a split; what cannot be divided goes to the largest. Without any traffic in it, in equal parts."""
    if not split:
        return {}
    weights = dict(split) if any(split.values()) else dict.fromkeys(split, 1)
    shares = {key: weight * total // sum(weights.values()) for key, weight in weights.items()}
    largest = max(weights, key=lambda key: weights[key])
    shares[largest] += total - sum(shares.values())
    return shares


def with_new(split: Mapping[str, int], percentage: int) -> dict[str, int]:
    """The split when a model comes in with its percentage; the others keep their proportions. The only one that gets any traffic gets all."""
    others = {key: share for key, share in split.items() if share}
    if not others:
        return {NEW: WHOLE}
    return {NEW: percentage, **share_out(others, WHOLE - percentage)}


def without(split: Mapping[str, int], gone: str) -> dict[str, int]:
    """The split when a model goes; the others keep their proportions."""
    return share_out({key: share for key, share in split.items() if key != gone}, WHOLE)
