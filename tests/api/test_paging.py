"""Pages of lists: nothing is lost or repeated, whatever is created in between; what is kept apart comes with the whole resource."""

from itertools import count
from pathlib import Path

import pytest
from fastapi import Request

from tuneline.api.faults import Fault
from tuneline.api.paging import ListRequest, page
from tuneline.api.resources import endpoint_deployments, model_versions, pipeline_job_view, schedules, tensorboards, tuning_job_view
from tuneline.api.store import LARGE, Body, Store

PARENT = "projects/p/locations/l"
FIELDS = ("displayName", "createTime", "endTime", "labels")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "service.db")
    for number in range(23):
        create(store, f"old-{number:02d}", number)
    return store


def create(store: Store, thing: str, number: int) -> None:
    """Some share their moment, their name and their team; some have not ended."""
    ended = {"endTime": f"2026-01-02T00:00:0{number % 4}Z"} if number % 3 else {}
    moment = f"2026-01-01T00:00:{number // 2:02d}Z"
    labels = {"team": "ab"[number % 2]}
    body = {"name": f"{PARENT}/things/{thing}", "displayName": f"thing {number % 5}", "createTime": moment, "labels": labels, "jobDetail": {"n": number}}
    store.insert("things", {**body, **ended})


def listing(**query: object) -> ListRequest:
    return ListRequest(Request({"type": "http", "query_string": b"", "headers": []}), **query)  # type: ignore[arg-type]


def pages(store: Store, **query: object) -> list[list[Body]]:
    """All pages; between two of them new things are created, at both ends of every order."""
    found: list[list[Body]] = []
    token = ""
    for number in count(1):
        answer = page(store, "things", PARENT, listing(pageSize=4, pageToken=token, **query), fields=FIELDS)
        found.append(answer["things"])
        token = answer.get("nextPageToken", "")
        if not token:
            return found
        create(store, f"aa-{number}", -number)
        create(store, f"new-{number}", 100 + number)
        store.delete(f"{PARENT}/things/new-{number}" if number % 2 else f"{PARENT}/things/aa-{number}")
    raise AssertionError


@pytest.mark.parametrize("order", ["", "create_time", "display_name", "display_name desc, create_time", "end_time desc", "endTime", "labels.team desc"])
@pytest.mark.parametrize("text", ["", "labels.team=a"])
def test_pages_neither_lose_nor_repeat_what_is_listed(store: Store, order: str, text: str) -> None:
    before = page(store, "things", PARENT, listing(pageSize=1000, orderBy=order, filter=text), fields=FIELDS)["things"]
    found = pages(store, orderBy=order, filter=text)
    assert len(found) > 2
    assert all(len(things) == 4 for things in found[:-1])
    seen = [thing for things in found for thing in things]
    assert len({thing["name"] for thing in seen}) == len(seen)
    assert [thing for thing in seen if "/old-" in thing["name"]] == before
    assert all(thing["jobDetail"] for thing in seen)


def test_a_token_that_was_not_given_by_this_list_is_refused(store: Store) -> None:
    def after(token: str, **query: object) -> Body:
        return page(store, "things", PARENT, listing(pageSize=4, pageToken=token, **query), fields=FIELDS)

    token = after("")["nextPageToken"]
    assert len(after(token)["things"]) == 4
    for wrong in ("nonsense", "NQ==", "W10=", "W1s1XSwgIiIsICIiXQ==", "W1tbXSwgWzFdXSwgIiIsICIiXQ=="):  # 5, [], [[5], "", ""], [[[], [1]], "", ""]
        with pytest.raises(Fault, match="not one that this list gave"):
            after(wrong)
    for other in ({"filter": "labels.team=a"}, {"orderBy": "display_name"}):
        with pytest.raises(Fault, match="keep filter and order"):
            after(token, **other)


def test_what_is_kept_apart_changes_and_goes_with_the_resource(store: Store) -> None:
    name = f"{PARENT}/things/old-01"
    assert store.get(name)["jobDetail"] == {"n": 1}
    store.update(name, lambda body: {**body, "jobDetail": {"n": 2}, "runtimeConfig": {}})
    assert (store.get(name)["jobDetail"], store.get(name)["runtimeConfig"]) == ({"n": 2}, {})
    store.update(name, lambda body: {key: value for key, value in body.items() if key not in LARGE})
    assert not store.get(name).keys() & set(LARGE)
    store.update(name, lambda body: {**body, "jobDetail": {"n": 3}})
    store.delete(name)
    create(store, "old-01", 7)
    assert store.get(name)["jobDetail"] == {"n": 7}


def test_no_filter_or_order_looks_at_what_is_kept_apart() -> None:
    asked = [module.FIELDS for module in (endpoint_deployments, model_versions, pipeline_job_view, schedules, tensorboards, tuning_job_view)]
    assert all(asked)
    assert not {field.partition(".")[0] for fields in asked for field in fields} & set(LARGE)
    assert not set(pipeline_job_view.BRIEF) & set(LARGE)
