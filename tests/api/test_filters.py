"""AIP-160 filters over stored resources."""

from pathlib import Path

import pytest

from tuneline.api.faults import Fault
from tuneline.api.filters import parse_filter, parse_order
from tuneline.api.store import Query, Store

FIELDS = ("displayName", "state", "createTime", "labels", "count")
PARENT = "projects/p/locations/l"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "service.db")
    for number, (title, state, labels) in enumerate(
        [
            ("first", "RUNNING", {"team": "a", "google-vertex-llm-tuning-base-model-id": "code-bison-002"}),
            ('sec"ond', "FAILED", {"team": "b", "x.y": "z"}),
            ("third one", "RUNNING", {}),
        ]
    ):
        name = f"{PARENT}/things/{number}"
        body = {"name": name, "displayName": title, "state": state, "labels": labels, "createTime": f"2026-01-0{number + 1}T00:00:00.000Z", "count": number}
        store.insert("things", body)
    return store


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "012"),
        ('display_name="first"', "0"),
        ("displayName=first", "0"),
        (r'display_name="sec\"ond"', "1"),
        ('display_name="third*"', "2"),
        ('display_name:"one"', "2"),
        ("state=RUNNING", "02"),
        ("state!=RUNNING", "1"),
        ("NOT state=RUNNING", "1"),
        ("-state=RUNNING", "1"),
        ("NOT labels.team=a", "12"),
        ("labels.team:*", "01"),
        ('labels.google-vertex-llm-tuning-base-model-id="code-bison-002"', "0"),
        ("labels.x.y=z", "1"),
        ('labels."x.y"=z', "1"),
        ("state=RUNNING AND labels.team=a", "0"),
        ("state=RUNNING labels.team=a", "0"),
        ("state=FAILED OR labels.team=a", "01"),
        ("(state=FAILED OR state=RUNNING) AND NOT (labels.team:*)", "2"),
        ('create_time>"2026-01-01T12:00:00Z"', "12"),
        ('create_time<="2026-01-02T00:00:00Z"', "01"),
        ('create_time<="2026-01-02T01:00:00+01:00"', "01"),
        ('create_time>"2026-01-01T20:00:00-04:00"', "2"),
        ('create_time="2026-01-02"', "1"),
        ('display_name="\'; DROP TABLE resources; --"', ""),
    ],
)
def test_filter_finds(store: Store, text: str, expected: str) -> None:
    found = store.page(Query(kind="things", parent=PARENT, condition=parse_filter(text, FIELDS)))
    assert "".join(sorted(body["name"][-1] for body in found)) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sate=x", "unknown field 'sate'"),
        ("display_nme=x", "Did you mean 'displayName'?"),
        ('create_time>"yesterday"', "expected a time such as 2026-11-22T00:00:00Z"),
        ("state=", "ends too early"),
        ("state", "ends too early"),
        ("(state=x", "closing bracket"),
        ("state=x)", "does not go on"),
        ('state="x', "cannot be read"),
        ("= x", "where a field is expected"),
        ("(" * 30 + "state=x" + ")" * 30, "too many brackets"),
        ("labels.a'b=x", "cannot be read"),
        ("state AND x", "a comparison such as"),
        ("secret.key=x", "unknown field"),
    ],
)
def test_what_cannot_be_understood_is_refused(text: str, told: str) -> None:
    with pytest.raises(Fault) as caught:
        parse_filter(text, FIELDS)
    assert told in str(caught.value)


def test_order(store: Store) -> None:
    def ordered(text: str) -> str:
        return "".join(body["name"][-1] for body in store.page(Query(kind="things", parent=PARENT, order=parse_order(text, FIELDS))))

    assert ordered("create_time desc") == "210"
    assert ordered("create_time") == "012"
    assert ordered("state, create_time desc") == "120"
    assert ordered("labels.team desc, count desc") == "102"
    assert ordered("labels.x.y desc, count") == "102"
    assert ordered("count, count desc") == "012"
    for wrong in ("nothing", "state sideways", "state desc asc", "labels.a\"')"):
        with pytest.raises(Fault):
            parse_order(wrong, FIELDS)
