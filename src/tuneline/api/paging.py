"""`pageSize` and `pageToken`, in both spellings, and the answer of a list."""

import base64
import json
from collections.abc import Callable, Collection, Sequence
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from tuneline.api.faults import Fault, invalid
from tuneline.api.filters import Condition, both, parse_filter, parse_order
from tuneline.api.store import Body, Place, Query, Store

DEFAULT_SIZE, MAX_SIZE = 100, 1000
MAX_DIGITS = 18
"""Of a number in the query: what has more is no number of rows."""
T = TypeVar("T")


class ListRequest:
    """The query parameters of a list. `page_size` and `pageSize` are one parameter, as everywhere in Google's APIs."""

    def __init__(self, request: Request, filter: str = "", pageSize: int = 0, pageToken: str = "", orderBy: str = "", readMask: str = "") -> None:  # noqa: A002, N803
        given = request.query_params
        self.filter = filter
        self.order_by = orderBy or given.get("order_by", "")
        self.token = pageToken or given.get("page_token", "")
        self.read_mask = readMask or given.get("read_mask", "")
        size = given.get("page_size", "") if not pageSize else str(pageSize)
        if size and not (size.isdecimal() and len(size) <= MAX_DIGITS):
            raise invalid(f"page_size: found {size!r}; expected a whole number from 0 to {MAX_SIZE}.")
        self.size = min(int(size or 0) or DEFAULT_SIZE, MAX_SIZE)


Listing = Annotated[ListRequest, Depends(ListRequest)]


def page(
    store: Store,
    kind: str,
    parent: str,
    listing: ListRequest,
    *,
    fields: Collection[str],
    show: Callable[[Body], Body] = lambda body: body,
    key: str = "",
    within: Condition | None = None,
    is_whole: bool = True,
) -> Body:
    """One page of the resources of a kind; `fields` may be filtered and ordered by, `key` names the list in the answer, `within` narrows it from the start.

    Not whole: `show` needs none of the large fields. A page begins after the last resource of the one before, whatever was created meanwhile.
    """
    condition = both(within, parse_filter(listing.filter, fields))
    query = Query(kind=kind, parent=parent, condition=condition, order=_order(listing.order_by, fields))
    found = store.rows(query, after=_place(listing, len(query.order) + 1), limit=listing.size + 1, is_whole=is_whole)
    token = {"nextPageToken": _token(listing, found[listing.size - 1].place)} if len(found) > listing.size else {}
    return {key or kind: [show(row.body) for row in found[: listing.size]], **token}


def window(items: Sequence[T], listing: ListRequest) -> tuple[Sequence[T], Body]:
    """One page of what is in memory, and the token for the next if there is one."""
    offset = _offset(listing)
    end = offset + listing.size
    return items[offset:end], ({"nextPageToken": _token(listing, end)} if end < len(items) else {})


def _order(text: str, fields: Collection[str]) -> tuple[tuple[str, bool], ...]:
    return parse_order(text, fields) or (("createTime", True),)


def _token(listing: ListRequest, start: Place | int) -> str:
    return base64.urlsafe_b64encode(json.dumps([start, listing.filter, listing.order_by]).encode()).decode()


def _place(listing: ListRequest, length: int) -> Place:
    match _start(listing):
        case None:
            return ()
        case list(values) if len(values) == length and all(isinstance(value, str | int | float) for value in values):
            return tuple(values)
    raise _refusal()


def _offset(listing: ListRequest) -> int:
    match _start(listing):
        case None:
            return 0
        case int(offset) if 0 < offset < 10**MAX_DIGITS:
            return offset
    raise _refusal()


def _start(listing: ListRequest) -> object:
    """Where the page begins, as the token has it; nothing for the first page. A token belongs to its filter and order."""
    if not listing.token:
        return None
    try:
        match json.loads(base64.urlsafe_b64decode(listing.token)):
            case [start, listing.filter, listing.order_by] if start is not None:
                return start
    except ValueError:
        pass
    raise _refusal()


def _refusal() -> Fault:
    return invalid("page_token: not one that this list gave. Leave it out to begin at the first page, and keep filter and order while you page.")
