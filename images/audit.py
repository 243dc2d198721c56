"""Ask for known vulnerabilities of every package in every lock: `python -m images.audit [--service osv|pypi] [--osv-url URL]`.

The exit code is 0 when all packages were looked up and nothing is refused, 1 when something is, 13 when a package could not be looked up:
pip-audit itself ends with 0 and "No known vulnerabilities found" when its service knows none of the packages.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from images.advisories import Finding, Verdict, judge, read_allowances
from images.roles import FOLDER, LOCKS, ROOT, pinned
from tuneline.errors import InfrastructureError, TunelineError

ALLOWED = FOLDER / "allowed_advisories.toml"
CANARY = ("jinja2", "2.4.1")
"""Has known vulnerabilities since 2014: a service that finds none in it knows nothing."""
NO_HASH = "--hash=sha256:" + 64 * "0"
"""pip-audit wants one and compares it with nothing."""

Pin = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the service said."""

    findings: tuple[Finding, ...]
    skipped: Mapping[str, str]
    """Name -> why the service did not look it up."""


def main(argv: Sequence[str]) -> int:
    """Audit, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m images.audit", description="Look for known vulnerabilities in the locks.")
    parser.add_argument("--service", choices=("osv", "pypi"), default="osv", help="whom to ask")
    parser.add_argument("--osv-url", help="another server with the interface of OSV")
    parser.add_argument("--allowed", type=Path, default=ALLOWED, metavar="FILE", help="the advisories that may pass")
    options = parser.parse_args(argv)
    service = ["--vulnerability-service", options.service, *(["--osv-url", options.osv_url] if options.osv_url else [])]
    locks = pins_by_lock()
    try:
        allowances = read_allowances(options.allowed.read_text(encoding="utf-8"), options.allowed.name)
        answers = ask([*{pin: None for pins in locks.values() for pin in pins}, CANARY], service)
        findings = without_canary(answers)
    except TunelineError as error:
        print(f"{error} {error.next_action}".strip(), file=sys.stderr)
        return error.exit_code
    verdict = judge(findings, allowances, {name for pins in locks.values() for name, _ in pins}, today())
    print("\n".join(report(answers, findings, verdict, locks)))
    if verdict.refused or verdict.problems:
        return 1
    return InfrastructureError.exit_code if answers.skipped else 0


def today() -> date:
    """The date by which allowances expire."""
    return datetime.now(UTC).date()


def pins_by_lock() -> dict[str, list[Pin]]:
    """Every lock's packages. A local version is audited as the release that it was built from: nobody writes advisories for torch 2.13.0+cpu."""
    return {
        lock.file.relative_to(ROOT).as_posix(): [
            (name, version.partition("+")[0]) for name, version in pinned(lock.file.read_text(encoding="utf-8").splitlines())
        ]
        for lock in LOCKS
    }


def ask(pins: Sequence[Pin], service: Sequence[str]) -> Answers:
    """Have pip-audit look the packages up. Raises `InfrastructureError` when the service cannot be asked."""
    found = [package for batch in batches(pins) for package in _run(batch, service)]
    skipped = {package["name"]: package["skip_reason"] for package in found if "skip_reason" in package}
    findings = tuple(
        Finding(
            package=package["name"],
            version=package["version"],
            identifiers=(advisory["id"], *advisory.get("aliases", ())),
            fixed_in=tuple(advisory.get("fix_versions", ())),
        )
        for package in found
        for advisory in package.get("vulns", ())
    )
    return Answers(findings=findings, skipped=skipped)


def batches(pins: Iterable[Pin]) -> Iterator[list[Pin]]:
    """Lists in which each name stands once, as pip-audit wants it."""
    versions: dict[str, list[str]] = {}
    for name, version in pins:
        versions.setdefault(name, []).append(version)
    for round_number in range(max(map(len, versions.values()), default=0)):
        yield [(name, found[round_number]) for name, found in versions.items() if round_number < len(found)]


def _run(pins: Sequence[Pin], service: Sequence[str]) -> list[Mapping[str, Any]]:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{name}=={version} {NO_HASH}\n" for name, version in pins)
        file.flush()
        command = [sys.executable, "-m", "pip_audit", "--requirement", file.name, "--disable-pip", "--require-hashes", "--aliases", "on"]
        done = subprocess.run([*command, "--format", "json", "--progress-spinner", "off", *service], capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        reason = done.stderr.strip().splitlines()[-1:] or [f"pip-audit ended with {done.returncode} and said nothing"]
        raise InfrastructureError(f"Nothing was audited: {reason[0]}", next_action="Run it where the advisory service can be reached, or give --osv-url.")
    packages: list[Mapping[str, Any]] = json.loads(done.stdout)["dependencies"]
    if {package["name"] for package in packages} != {name for name, _ in pins}:
        raise InfrastructureError("Nothing was audited: pip-audit did not answer for every package.")
    return packages


def without_canary(answers: Answers) -> list[Finding]:
    """The findings of our own packages. Raises `InfrastructureError` when the service does not know what everybody knows."""
    kept = [finding for finding in answers.findings if (finding.package, finding.version) != CANARY]
    if len(kept) == len(answers.findings) and CANARY[0] not in answers.skipped:
        name, version = CANARY
        raise InfrastructureError(f"Nothing was audited: the service finds nothing in {name} {version}, which is known to be vulnerable.")
    return kept


def report(answers: Answers, findings: Sequence[Finding], verdict: Verdict, locks: Mapping[str, Sequence[Pin]]) -> Iterator[str]:
    """The lines to print."""
    for finding in verdict.refused:
        where = ", ".join(lock for lock, pins in locks.items() if (finding.package, finding.version) in pins)
        fix = f"fixed in {', '.join(finding.fixed_in)}" if finding.fixed_in else "no fixed version yet"
        yield f"REFUSED  {finding.package} {finding.version}: {', '.join(finding.identifiers)}; {fix}. In {where}."
    yield from (f"REFUSED  {ALLOWED.name}: {problem}" for problem in verdict.problems)
    yield from (f"UNKNOWN  {name}: not audited. {reason}" for name, reason in answers.skipped.items())
    yield from (f"unused   {entry.id} of {entry.package} is allowed, but was not found. Remove the entry." for entry in verdict.unused)
    allowed = len(findings) - len(verdict.refused)
    num_packages = len({pin for pins in locks.values() for pin in pins})
    yield f"{num_packages} packages of {len(locks)} locks: {len(verdict.refused)} refused, {allowed} allowed, {len(answers.skipped)} not audited."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
