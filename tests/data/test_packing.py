import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneline.data.packing import pack

LENGTHS = st.lists(st.integers(1, 100), max_size=60)


@given(LENGTHS, st.integers(100, 300))
def test_every_example_is_in_one_row_and_no_row_is_too_full(lengths: list[int], capacity: int) -> None:
    rows = pack(lengths, capacity)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(0 < sum(lengths[index] for index in row) <= capacity for row in rows)


@given(LENGTHS, st.integers(100, 300))
def test_no_two_rows_would_fit_into_one(lengths: list[int], capacity: int) -> None:
    sums = sorted(sum(lengths[index] for index in row) for row in pack(lengths, capacity))
    assert len(sums) < 2 or sums[0] + sums[1] > capacity


@given(LENGTHS)
def test_the_same_lengths_give_the_same_rows(lengths: list[int]) -> None:
    assert pack(lengths, 128) == pack(list(lengths), 128)


def test_the_best_fit_is_taken() -> None:
    assert pack([60, 50, 40, 45, 5], 100) == [[0, 2], [1, 3, 4]]


def test_rows_are_nearly_full_on_lengths_like_those_of_code() -> None:
    lengths = [20 + (index * 7919) % 580 for index in range(3000)]
    assert sum(lengths) / (len(pack(lengths, 4096)) * 4096) > 0.99


def test_an_example_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="example 1 has 9 tokens; a row holds 8"):
        pack([3, 9], 8)


def test_nothing_is_packed_into_nothing() -> None:
    assert pack([], 8) == []
