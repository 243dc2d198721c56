"""One page of a listing (pure): names in order -> items, prefixes and where the next page begins."""

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tuneline.api.gcs.conditions import read_number
from tuneline.api.gcs.faults import invalid

PAGE = 1000
BEHIND = "\U0010ffff"
"""The last character there is: what begins with a prefix comes before prefix + BEHIND, or is that."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """Which names are asked for."""

    prefix: str = ""
    delimiter: str = ""
    start: str = ""
    """First name that may come."""
    end: str = ""
    """First name that may not come any more; empty: none."""
    after: str = ""
    """Last entry of the page before."""
    max_results: int = PAGE
    include_trailing_delimiter: bool = False

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Question":
        """From the query parameters of `objects.list` and `buckets.list`."""
        for key in ("matchGlob", "filter"):
            if query.get(key):
                raise invalid(f"{key} is not supported here; list by prefix and delimiter.")
        if query.get("softDeleted") == "true":
            raise invalid("softDeleted: nothing is kept of deleted objects here.")
        return cls(
            prefix=query.get("prefix", ""),
            delimiter=query.get("delimiter", ""),
            start=query.get("startOffset", ""),
            end=query.get("endOffset", ""),
            after=read_token(query.get("pageToken", "")),
            max_results=min(read_number(query, "maxResults") or PAGE, PAGE),
            include_trailing_delimiter=query.get("includeTrailingDelimiter") == "true",
        )

    @property
    def floor(self) -> str:
        """No name before this one is of interest."""
        return max(self.start, self.after, self.prefix)

    def entry_of(self, name: str) -> tuple[str, bool]:
        """What stands for a name: itself, or the prefix that it shares with others, and whether it is that."""
        place = name.find(self.delimiter, len(self.prefix)) if self.delimiter else -1
        return (name, False) if place < 0 else (name[: place + len(self.delimiter)], True)


@dataclass
class Page:
    """What one answer holds."""

    items: list[str] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    token: str = ""
    """Of the next page; empty on the last."""


def page_of(names: Iterable[str], question: Question, *, skip_to: Callable[[str], None]) -> Page:
    """The page. `skip_to` tells the source of the names that none before the given one is needed any more."""
    page = Page()
    last = question.after
    for name in names:
        if not name.startswith(question.prefix) or name < question.start:
            continue
        if question.end and name >= question.end:
            break
        entry, is_prefix = question.entry_of(name)
        if entry <= question.after or (is_prefix and entry == last):
            continue
        if len(page.items) + len(page.prefixes) >= question.max_results:
            page.token = make_token(last)
            break
        if is_prefix:
            page.prefixes.append(entry)
            skip_to(entry + BEHIND)
        if not is_prefix or (question.include_trailing_delimiter and entry == name):
            page.items.append(name)
        last = entry
    return page


def make_token(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode()


def read_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars="-_", validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise invalid(f"pageToken: found {token!r}; expected the nextPageToken of an answer.") from None
