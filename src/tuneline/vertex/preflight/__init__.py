"""Everything about a tuning job that can be found out before it is submitted: independent checks, each with a name, findings and what to do."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tuneline.errors import InfrastructureError, UserError
from tuneline.submission import Checked
from tuneline.templates import Template
from tuneline.vertex.job_request import JobOptions
from tuneline.vertex.rest import Refused

Outcome = Literal["ok", "warning", "problem", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The job that is to be submitted, as far as it was told."""

    options: JobOptions
    template: Template | None = None
    checked: Checked | None = None
    is_google: bool = True
    """Vertex AI itself is asked; else a tuning service, which runs the job on its own machine."""

    def value(self, parameter: str) -> str:
        """A parameter's text, or nothing."""
        values = self.checked.values if self.checked else {}
        return str(values.get(parameter, ""))

    @property
    def regions(self) -> dict[str, str]:
        """Pipeline, upload and tuning region, as far as they are known."""
        resolved = self.checked.resolved if self.checked else None
        upload, tuning = (resolved.upload_region, resolved.tuning_region) if resolved else (self.value("location"), "")
        named = {"pipeline": self.options.region, "upload": upload, "tuning": tuning}
        return {name: region for name, region in named.items() if region}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was found out, or could not be."""

    outcome: Outcome
    found: str
    advice: str = ""
    is_passing: bool = False
    """With `unknown`: asking again may help."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question; its findings are told under its name."""

    name: str
    run: Callable[[], Iterable[Finding]]


def ok(found: str) -> Finding:
    return Finding(outcome="ok", found=found)


def warning(found: str, advice: str = "") -> Finding:
    return Finding(outcome="warning", found=found, advice=advice)


def problem(found: str, advice: str = "") -> Finding:
    return Finding(outcome="problem", found=found, advice=advice)


def unknown(found: str, advice: str = "") -> Finding:
    return Finding(outcome="unknown", found=found, advice=advice)


def run_checks(checks: Sequence[Check]) -> Iterator[tuple[str, Finding]]:
    """All findings by the names of their checks. A check that cannot be carried out says so, and hinders no other."""
    for check in checks:
        try:
            for finding in check.run():
                yield check.name, finding
        except InfrastructureError as error:
            yield check.name, Finding(outcome="unknown", found=str(error), advice=error.next_action or "Try again.", is_passing=True)
        except UserError as error:
            if isinstance(error, Refused) and error.status == "PERMISSION_DENIED":
                yield check.name, unknown(str(error), "This account may not look. What it may not see may still be right.")
            else:
                yield check.name, problem(str(error), error.next_action)


def exit_code(findings: Iterable[Finding]) -> int:
    """1 with a problem, 13 when something could not be told because a service failed, else 0."""
    found = list(findings)
    if any(finding.outcome == "problem" for finding in found):
        return 1
    return 13 if any(finding.is_passing for finding in found) else 0
