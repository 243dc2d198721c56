"""Traffic splits, by properties."""

from hypothesis import given
from hypothesis import strategies as st

from tuneline.vertex.traffic import NEW, WHOLE, share_out, with_new, without

IDS = st.text("123456789", min_size=1, max_size=10)
SPLITS = st.dictionaries(IDS, st.integers(0, WHOLE), min_size=1, max_size=6).map(lambda weights: share_out(weights, WHOLE))


@given(SPLITS, st.integers(0, WHOLE))
def test_a_new_model_gets_its_share_and_the_split_stays_whole(split: dict[str, int], percentage: int) -> None:
    shared = with_new(split, percentage)
    assert shared[NEW] == percentage
    assert sum(shared.values()) == WHOLE
    assert min(shared.values()) >= 0
    for key, share in split.items():
        if share:
            assert abs(shared[key] - share * (WHOLE - percentage) / WHOLE) <= len(split)  # whole percents
        else:
            assert key not in shared


@given(st.integers(0, WHOLE), st.lists(IDS, unique=True))
def test_the_only_model_with_traffic_gets_all_of_it(percentage: int, idle: list[str]) -> None:
    assert with_new(dict.fromkeys(idle, 0), percentage) == {NEW: WHOLE}


@given(SPLITS, st.data())
def test_when_a_model_goes_the_others_share_its_traffic(split: dict[str, int], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(sorted(split)))
    shared = without(split, gone)
    assert shared.keys() == split.keys() - {gone}
    assert sum(shared.values()) == (WHOLE if len(split) > 1 else 0)
    for first, second in zip(sorted(shared), sorted(shared)[1:], strict=False):
        if split[first] < split[second]:
            assert shared[first] <= shared[second]


def test_proportions_are_kept() -> None:
    assert with_new({"1": 75, "2": 25}, 20) == {NEW: 20, "1": 60, "2": 20}
    assert without({"1": 50, "2": 30, "3": 20}, "1") == {"2": 60, "3": 40}
    assert without({"1": 100, "2": 0, "3": 0}, "1") == {"2": 50, "3": 50}
