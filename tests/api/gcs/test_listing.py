"""Listings: order, prefixes, delimiters, offsets and pages, against a list of names in memory."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneline.api.gcs.faults import StorageFault
from tuneline.api.gcs.listing import Question, page_of, read_token
from tuneline.api.gcs.tree import Walk

TEXT = st.text(alphabet="ab/-.é😀", max_size=6)
NAMES = ["a-b", "a.txt", "a/1", "a/2/x", "a/2/y", "a0", "b", "é", "\uffff", "😀"]


def pages(names: list[str], question: Question) -> tuple[list[str], list[str]]:
    items, prefixes, after = [], [], question.after
    while True:
        page = page_of(sorted(names), Question(**{**vars(question), "after": after}), skip_to=lambda _: None)
        assert len(page.items) + len(page.prefixes) <= question.max_results + question.include_trailing_delimiter
        items += page.items
        prefixes += page.prefixes
        if not page.token:
            return items, prefixes
        after = read_token(page.token)


@given(
    names=st.sets(TEXT.filter(bool), max_size=12), prefix=TEXT, delimiter=st.sampled_from(["", "/", "a", "-a"]),
    start=TEXT, end=TEXT, size=st.integers(1, 4), trailing=st.booleans(),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_pages_hold_every_name_once(names: set[str], prefix: str, delimiter: str, start: str, end: str, size: int, trailing: bool) -> None:
    fitting = [name for name in sorted(names) if name.startswith(prefix) and name >= start and (not end or name < end)]
    expected_items, expected_prefixes = [], []
    for name in fitting:
        head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
        entry = prefix + head + found
        if not found or (trailing and entry == name):
            expected_items.append(name)
        if found and entry not in expected_prefixes:
            expected_prefixes.append(entry)
    question = Question(prefix=prefix, delimiter=delimiter, start=start, end=end, max_results=size, include_trailing_delimiter=trailing)
    assert pages(list(names), question) == (expected_items, expected_prefixes)


@pytest.fixture
def walked(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / "bkt" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "bkt" / name).write_text(name)
    return tmp_path


def test_files_come_in_the_order_of_their_bytes(walked: Path) -> None:
    assert list(Walk(walked, "bkt")) == NAMES == sorted(NAMES, key=str.encode)


@pytest.mark.parametrize("floor", ["", "a", "a/", "a/2", "a/2/", "a/2/x", "a/2/z", "a/\U0010ffff", "a0", "é", "\U0010ffff"])
@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/2", "a/2/y", "z"])
def test_a_walk_leaves_out_what_is_before_its_floor_or_without_its_prefix(walked: Path, floor: str, prefix: str) -> None:
    assert list(Walk(walked, "bkt", prefix=prefix, floor=floor)) == [name for name in NAMES if name.startswith(prefix) and name >= floor]


def test_a_folder_that_is_told_as_a_prefix_is_not_walked(walked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    names = Walk._names
    monkeypatch.setattr(Walk, "_names", lambda self, base: (read.append(base), names(self, base))[1])
    walk = Walk(walked, "bkt")
    page = page_of(walk, Question(delimiter="/"), skip_to=lambda name: setattr(walk, "floor", name))
    assert page.prefixes == ["a/"]
    assert "a/2/" not in read


@pytest.mark.parametrize(
    "query", [{"pageToken": "%%%"}, {"pageToken": "/w=="}, {"maxResults": "-1"}, {"maxResults": "many"}, {"matchGlob": "*"}, {"softDeleted": "true"}]
)
def test_questions_that_cannot_be_answered_are_refused(query: dict[str, str]) -> None:
    with pytest.raises(StorageFault, match=next(iter(query))) as caught:
        Question.of(query)
    assert caught.value.code == 400
