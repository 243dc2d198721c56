"""The list of advisories that may pass: what it may hold, and what it lets through."""

from datetime import date, timedelta

import pytest

from images.advisories import LONGEST, Allowance, Finding, judge, read_allowances
from images.audit import ALLOWED
from tuneline.errors import UserError

TODAY = date(2026, 11, 24)
FINDING = Finding(package="some-package", version="1.0", identifiers=("GHSA-aaaa", "CVE-2026-1"), fixed_in=("1.1",))


def allowance(**changes: object) -> Allowance:
    values = {"id": "GHSA-aaaa", "package": "Some_Package", "reason": "never called", "expires": TODAY} | changes
    return Allowance(**values)  # type: ignore[arg-type]


def test_without_an_allowance_a_finding_is_refused() -> None:
    verdict = judge([FINDING], [], {"some-package"}, TODAY)
    assert (verdict.refused, verdict.problems, verdict.unused) == ((FINDING,), (), ())


@pytest.mark.parametrize("identifier", ["GHSA-aaaa", "CVE-2026-1"])
def test_an_allowance_passes_its_finding_up_to_its_day(identifier: str) -> None:
    verdict = judge([FINDING], [allowance(id=identifier)], {"some-package"}, TODAY)
    assert (verdict.refused, verdict.problems, verdict.unused) == ((), (), ())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"expires": TODAY - timedelta(days=1)}, "expired on 2026-11-23"),
        ({"package": "gone"}, "no lock has this package"),
        ({"expires": TODAY + LONGEST + timedelta(days=1)}, "at the latest"),
    ],
)
def test_an_entry_that_is_not_good_fails_and_passes_nothing(changes: dict[str, object], problem: str) -> None:
    verdict = judge([FINDING], [allowance(**changes)], {"some-package"}, TODAY)
    assert verdict.refused == (FINDING,)
    assert len(verdict.problems) == 1
    assert problem in verdict.problems[0]


@pytest.mark.parametrize("changes", [{"id": "GHSA-bbbb"}, {"package": "other"}])
def test_an_entry_for_something_else_is_reported_as_unused(changes: dict[str, object]) -> None:
    verdict = judge([FINDING], [allowance(**changes)], {"some-package", "other"}, TODAY)
    assert verdict.refused == (FINDING,)
    assert verdict.unused == (allowance(**changes),)


def test_a_list_is_read() -> None:
    text = '[[allowed]]\nid = "GHSA-aaaa"\npackage = "Some_Package"\nreason = "never called"\nexpires = 2026-11-24\n'
    assert read_allowances(text, "list.toml") == (allowance(),)
    assert read_allowances("# nothing\n", "list.toml") == ()


def test_every_mistake_of_a_list_is_named_at_once() -> None:
    first = '[[allowed]]\nid = " "\npackage = "p"\nreason = "r"\nexpires = "2026-11-24"\nuntil = 3\n'
    second = '[[allowed]]\nid = "x"\npackage = "p"\nexpires = 2026-11-24T10:00:00\n'
    text = f"extra = 1\n{first}{second}"
    with pytest.raises(UserError) as raised:
        read_allowances(text, "list.toml")
    for part in (
        "unknown key 'extra'",
        "entry 1: unknown keys until",
        "id is ' '",
        "expires is '2026-11-24'",
        "entry 2: reason is None",
        "expires is datetime",
    ):
        assert part in str(raised.value)


def test_what_is_no_toml_is_refused() -> None:
    with pytest.raises(UserError, match=r"list\.toml: is not TOML"):
        read_allowances("[[allowed]", "list.toml")


def test_the_projects_own_list_can_be_read() -> None:
    assert isinstance(read_allowances(ALLOWED.read_text(encoding="utf-8"), ALLOWED.name), tuple)
