"""`tuneline doctor [TEMPLATE] ...`: find out whether a job could run on Vertex AI, before anything is submitted."""

import json
from collections.abc import Sequence

from tuneline.cli.submit_arguments import DOCTOR, checked_parameters, chosen_template, job_options
from tuneline.cli.template_arguments import Arguments, help_text, split, template_reference
from tuneline.errors import UsageError, UserError
from tuneline.local.extras import is_installed
from tuneline.templates import Template, load
from tuneline.vertex.backoff import Backoff
from tuneline.vertex.google_apis import GoogleApis
from tuneline.vertex.preflight import Check, Finding, Plan, exit_code, problem, run_checks
from tuneline.vertex.preflight.buckets import bucket_checks
from tuneline.vertex.preflight.offline import offline_checks
from tuneline.vertex.preflight.project import project_checks
from tuneline.vertex.preflight.resources import resource_checks
from tuneline.vertex.rest import Vertex, is_google

_BACKOFF = Backoff(attempts=3)
"""A person waits for the answer, and can ask again."""
_WORDS = {"ok": "ok", "warning": "WARNING", "problem": "PROBLEM", "unknown": "unknown"}


def main(argv: Sequence[str]) -> int:
    """Check everything that can be checked."""
    reference = template_reference(argv)
    template = load(reference) if reference is not None else None
    arguments = split(argv, template.inputs if template else {}, DOCTOR)
    if "--help" in arguments.switches:
        print(help_text(template, DOCTOR))
        return 0
    _check_usage(arguments, template)
    plan = _plan(arguments, template)
    findings = list(run_checks([*offline_checks(plan, is_installed=is_installed), *_online_checks(plan)]))
    _tell(findings, as_json="--json" in arguments.switches)
    return exit_code(finding for _, finding in findings)


def _check_usage(arguments: Arguments, template: Template | None) -> None:
    problems = [f"unexpected argument {extra!r}." for extra in arguments.templates[1 if template else 0 :]]
    problems += [f"{option} is missing." for option in ("--project", "--pipeline-region") if option not in arguments.options]
    if problems:
        raise UsageError(*problems, next_action="tuneline doctor --help tells more.")


def _plan(arguments: Arguments, template: Template | None) -> Plan:
    options = job_options(arguments)
    if template is None:
        return Plan(options=options, is_google=is_google())
    template = chosen_template(arguments, template)
    return Plan(options=options, template=template, checked=checked_parameters(arguments, template, options), is_google=is_google())


def _online_checks(plan: Plan) -> list[Check]:
    """All checks that need a network; without credentials the one that says so."""
    try:
        vertex = Vertex(region=plan.options.region, backoff=_BACKOFF)
    except UserError as error:
        finding = problem(str(error), error.next_action)
        return [Check(name="credentials", run=lambda: [finding])]
    apis = GoogleApis(session=vertex.session, backoff=vertex.backoff, clock=vertex.clock)
    return [*project_checks(plan, vertex, apis), *bucket_checks(plan, apis), *resource_checks(plan, vertex, apis)]


def _tell(findings: Sequence[tuple[str, Finding]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"checks": [{"name": name, "result": found.outcome, "found": found.found, "advice": found.advice} for name, found in findings]}))
        return
    width = max(len(name) for name, _ in findings)
    for name, found in findings:
        print(f"{_WORDS[found.outcome]:<8} {name:<{width}}  {found.found}")
        if found.advice:
            print(f"{'':<{width + 11}}{found.advice}")
