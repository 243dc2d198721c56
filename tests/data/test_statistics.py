"""Counts beside the tokens."""

import itertools

import numpy as np
import pytest

from tuneline.data.conversation import Conversation, Turn
from tuneline.data.statistics import BUCKETS, SHOWN_CHARACTERS, SHOWN_PROMPTS, ContentCounts, distribution


def test_a_distribution_says_where_the_numbers_lie() -> None:
    values = np.arange(1, 101, dtype=np.int64)
    found = distribution(values)
    buckets = found.pop("buckets")
    assert found == {"sum": 5050, "min": 1, "max": 100, "mean": 50.5, "median": 50.5, "p5": pytest.approx(5.95), "p95": pytest.approx(95.05)}
    assert isinstance(buckets, list)
    assert [bucket["count"] for bucket in buckets] == [10] * BUCKETS
    assert (buckets[0]["left"], buckets[-1]["right"]) == (1, 100)
    assert all(left["right"] == right["left"] for left, right in itertools.pairwise(buckets))


def test_equal_numbers_are_one_bucket() -> None:
    assert distribution(np.array([7, 7, 7]))["buckets"] == [{"count": 3, "left": 7.0, "right": 7.0}]


def test_text_is_counted_and_a_few_questions_are_kept() -> None:
    counts = ContentCounts()
    counts.add(Conversation((Turn("system", "be brief"), Turn("user", "first?"), Turn("assistant", "a"), Turn("user", "second?"), Turn("assistant", "b"))))
    counts.add(Conversation((Turn("user", "x" * 5_000), Turn("assistant", "y"))))
    for _ in range(5):
        counts.add(Conversation((Turn("user", "q"), Turn("assistant", "a"))))
    assert counts.characters == len("be briefafirst?bsecond?") + 5_001 + 10
    assert list(counts.messages) == [4, 2, 2, 2, 2, 2, 2]
    assert counts.first_prompts == ["first?", "x" * SHOWN_CHARACTERS, "q"]
    assert len(counts.first_prompts) == SHOWN_PROMPTS
