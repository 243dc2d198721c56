"""`tuneline submit TEMPLATE ...`: run a compiled template on Vertex AI, a tuning service or Kubeflow."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from tuneline.cli.following import fail, tell, wait_for
from tuneline.cli.submit_arguments import SUBMIT, check_usage, checked_parameters, chosen_template, job_options, run_options
from tuneline.cli.template_arguments import Arguments, help_text, split, template_reference
from tuneline.cli.template_source import load_template
from tuneline.errors import ParameterError, TunelineError, UserError
from tuneline.kubeflow.pipelines import Kubeflow, run_request
from tuneline.remote_job import RemoteJob
from tuneline.submission import Checked
from tuneline.templates import Template
from tuneline.vertex import pipeline_jobs
from tuneline.vertex.backoff import Backoff
from tuneline.vertex.google_apis import GoogleApis
from tuneline.vertex.job_request import JobOptions, job_request, new_job_id, option_problems
from tuneline.vertex.preflight import Plan, run_checks
from tuneline.vertex.preflight.buckets import bucket_checks
from tuneline.vertex.preflight.offline import template_check
from tuneline.vertex.rest import Vertex, address_of, is_google

BACKOFF = Backoff(first_seconds=0.5, longest_seconds=8.0, attempts=6)
"""A quarter of a minute at most: a person waits. A job that is watched is asked for much longer."""


def main(argv: Sequence[str]) -> int:
    """Submit; with `--json` an error is told on standard output, too."""
    try:
        return _submit(argv)
    except TunelineError as error:
        fail(error, as_json="--json" in argv)


def _submit(argv: Sequence[str]) -> int:
    reference = template_reference(argv)
    template = load_template(reference)[0] if reference is not None else None
    arguments = split(argv, template.inputs if template else {}, SUBMIT)
    if "--help" in arguments.switches:
        print(help_text(template, SUBMIT))
        return 0
    template, options = chosen_template(arguments, check_usage(arguments, template)), job_options(arguments)
    checked = checked_parameters(arguments, template, options)
    submit = _submit_to_kubeflow if "--kubeflow" in arguments.options else _submit_to_vertex
    return submit(arguments, template, options, checked)


def _submit_to_vertex(arguments: Arguments, template: Template, options: JobOptions, checked: Checked) -> int:
    is_dry = "--dry-run" in arguments.switches
    refuse(checked, option_problems(options, template, is_google=is_google()), must_be_built=not is_dry)
    request = job_request(template, checked.values, options, moment=datetime.now(UTC))
    if is_dry:
        url = f"{address_of(options.region)}/v1/{request.collection}?pipelineJobId={quote(request.job_id)}"
        return print_request(url, request.body, arguments)
    vertex = Vertex(region=options.region, backoff=BACKOFF)
    if "--skip-preflight" not in arguments.switches:
        preflight(Plan(options=options, template=template, checked=checked, is_google=is_google()), vertex)
    job = pipeline_jobs.remote_job(pipeline_jobs.create(vertex, request))
    return _finish(job, lambda: pipeline_jobs.look(vertex, job.name), arguments, when_left=f"The job goes on. Cancel it: tuneline jobs cancel {job.name}")


def _submit_to_kubeflow(arguments: Arguments, template: Template, options: JobOptions, checked: Checked) -> int:
    is_dry = "--dry-run" in arguments.switches
    refuse(checked, (), must_be_built=not is_dry)
    run = run_options(arguments, options, options.display_name or new_job_id(template.name, datetime.now(UTC)))
    if is_dry:
        return print_request(*run_request(template, checked.values, run), arguments)
    kubeflow = Kubeflow(options=run)
    job = kubeflow.create(template, checked.values)
    return _finish(job, lambda: kubeflow.look(job.name, template), arguments, when_left=f"The run goes on. Terminate it at {job.url}")


def refuse(checked: Checked, problems: Iterable[str], *, must_be_built: bool) -> None:
    """Raise ParameterError with all problems at once; without any, tell the warnings."""
    found = [*problems, *checked.problems, *(checked.unbuilt if must_be_built else ())]
    if found:
        raise ParameterError(*found)
    for warning in (*checked.warnings, *checked.unbuilt):
        print(warning, file=sys.stderr)


def preflight(plan: Plan, vertex: Vertex) -> None:
    """Look at the job's buckets and images' names before it is created. Raises UserError with all that would fail."""
    apis = GoogleApis(session=vertex.session, backoff=vertex.backoff, clock=vertex.clock)
    findings = [finding for _, finding in run_checks([template_check(plan), *bucket_checks(plan, apis)])]
    problems = [f"{finding.found}. {finding.advice}".strip() for finding in findings if finding.outcome == "problem"]
    if problems:
        raise UserError(*problems, next_action="tuneline doctor tells more; --skip-preflight submits all the same.")
    for finding in findings:
        if finding.outcome != "ok":
            print(f"{finding.found}. {finding.advice}".strip(), file=sys.stderr)


def print_request(url: str, body: Mapping[str, Any], arguments: Arguments) -> int:
    if "--json" in arguments.switches:
        print(json.dumps({"method": "POST", "url": url, "body": body}, ensure_ascii=False))
    else:
        print(f"POST {url}", "Content-Type: application/json; charset=utf-8", "", json.dumps(body, indent=2, ensure_ascii=False), sep="\n")
    return 0


def _finish(job: RemoteJob, look: Callable[[], RemoteJob], arguments: Arguments, *, when_left: str) -> int:
    """Tell which job was created, and unless --no-wait is given what comes of it."""
    if "--no-wait" in arguments.switches:
        print(json.dumps(job.to_json()) if "--json" in arguments.switches else job.name)
        return 0
    quiet = "--quiet" in arguments.switches
    if not quiet:
        print(f"created {job.name}", job.url, sep="\n", file=sys.stderr)
    as_json = "--json" in arguments.switches
    try:
        ended = wait_for(look, quiet=quiet, when_left=when_left)
    except KeyboardInterrupt:
        if as_json:  # the job goes on, and a program has to know which
            print(json.dumps(job.to_json()))
        raise
    return tell(ended, as_json=as_json)
