"""What an audit decides: which findings are allowed, and what is wrong with the list of the allowed ones. Pure."""

import tomllib
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from datetime import date, timedelta

from images.roles import normal
from tuneline.errors import UserError

KEYS = {"id": str, "package": str, "reason": str, "expires": date}
LONGEST = timedelta(days=184)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A known vulnerability of a package in a lock."""

    package: str
    version: str
    identifiers: tuple[str, ...]
    """The advisory's name and its aliases."""
    fixed_in: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """An advisory that may pass until a date."""

    id: str
    package: str
    reason: str
    expires: date

    def covers(self, finding: Finding) -> bool:
        """Whether it speaks of this finding."""
        return normal(self.package) == normal(finding.package) and self.id in finding.identifiers


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of an audit."""

    refused: tuple[Finding, ...]
    problems: tuple[str, ...]
    """Of the list of allowances."""
    unused: tuple[Allowance, ...]


def read_allowances(text: str, source: str) -> tuple[Allowance, ...]:
    """The list. Raises `UserError` with every mistake in it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{source}: is not TOML ({error}).") from None
    rows = document.get("allowed", [])
    problems = [f"{source}: unknown key {key!r}; expected tables [[allowed]]." for key in document if key != "allowed"]
    problems += [f"{source}, entry {number}: {mistake}" for number, row in enumerate(rows, 1) for mistake in _mistakes(row)]
    if problems:
        raise UserError(*problems)
    return tuple(Allowance(**row) for row in rows)


def _mistakes(row: object) -> Iterable[str]:
    if not isinstance(row, dict):
        yield f"is {row!r}; expected a table."
        return
    if unknown := row.keys() - KEYS:
        yield f"unknown keys {', '.join(sorted(unknown))}; expected {', '.join(KEYS)}."
    for key, kind in KEYS.items():
        value = row.get(key)
        if type(value) is not kind or (isinstance(value, str) and not value.strip()):
            yield f"{key} is {value!r}; expected {'a date such as 2027-01-31' if kind is date else 'text'}."


def judge(findings: Sequence[Finding], allowances: Sequence[Allowance], packages: Set[str], today: date) -> Verdict:
    """What is refused, and what is wrong with the allowances. `packages` are the names in the locks."""
    valid, problems = [], []
    for allowance in allowances:
        what = f"{allowance.id} of {allowance.package}"
        if normal(allowance.package) not in packages:
            problems.append(f"{what}: no lock has this package. Remove the entry.")
        elif allowance.expires < today:
            problems.append(f"{what}: expired on {allowance.expires}. Update the package, or give a reason and a date anew.")
        elif allowance.expires > today + LONGEST:
            problems.append(f"{what}: runs until {allowance.expires}; expected {today + LONGEST} at the latest.")
        else:
            valid.append(allowance)
    return Verdict(
        refused=tuple(finding for finding in findings if not any(allowance.covers(finding) for allowance in valid)),
        problems=tuple(problems),
        unused=tuple(allowance for allowance in valid if not any(allowance.covers(finding) for finding in findings)),
    )
