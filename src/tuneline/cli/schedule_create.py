"""`tuneline schedule create TEMPLATE ...`: have a compiled template run again and again."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from tuneline.cli.schedule_arguments import CREATE, check, named, timing_of
from tuneline.cli.schedule_timing import timing_problems
from tuneline.cli.submit import BACKOFF, preflight, print_request, refuse
from tuneline.cli.submit_arguments import checked_parameters, chosen_template, job_options, run_options
from tuneline.cli.template_arguments import Arguments, help_text, split, template_reference
from tuneline.cli.template_source import load_template
from tuneline.kubeflow import recurring_runs
from tuneline.kubeflow.pipelines import Kubeflow
from tuneline.remote_schedule import RemoteSchedule, Timing
from tuneline.submission import Checked
from tuneline.templates import Template
from tuneline.vertex.job_request import JobOptions, job_request, option_problems
from tuneline.vertex.preflight import Plan
from tuneline.vertex.rest import Vertex, address_of, is_google
from tuneline.vertex.schedules import Schedules, schedule_body


def main(argv: Sequence[str]) -> int:
    reference = template_reference(argv)
    template = load_template(reference)[0] if reference is not None else None
    arguments = split(argv, template.inputs if template else {}, CREATE)
    if "--help" in arguments.switches:
        print(help_text(template, CREATE))
        return 0
    template = chosen_template(arguments, check(arguments, template))
    arguments = named(arguments, template)
    options, timing = job_options(arguments), timing_of(arguments)
    checked = checked_parameters(arguments, template, options)
    create = _create_on_kubeflow if "--kubeflow" in arguments.options else _create_on_vertex
    return create(arguments, template, options, checked, timing)


def _create_on_vertex(arguments: Arguments, template: Template, options: JobOptions, checked: Checked, timing: Timing) -> int:
    is_dry = "--dry-run" in arguments.switches
    problems = [*timing_problems(timing, datetime.now(UTC)), *option_problems(options, template, is_google=is_google())]
    refuse(checked, problems, must_be_built=not is_dry)
    job = job_request(template, checked.values, options, moment=datetime.now(UTC))
    body = schedule_body(options.display_name, timing, job)
    if is_dry:
        return print_request(f"{address_of(options.region)}/v1/{job.parent}/schedules", body, arguments)
    vertex = Vertex(region=options.region, backoff=BACKOFF)
    if "--skip-preflight" not in arguments.switches:
        preflight(Plan(options=options, template=template, checked=checked, is_google=is_google()), vertex)
    return _tell(Schedules(vertex=vertex, parent=job.parent).create(body), arguments)


def _create_on_kubeflow(arguments: Arguments, template: Template, options: JobOptions, checked: Checked, timing: Timing) -> int:
    is_dry = "--dry-run" in arguments.switches
    problems = list(timing_problems(timing, datetime.now(UTC)))
    problems += [] if any(problem.startswith("--cron") for problem in problems) else recurring_runs.timing_problems(timing)
    refuse(checked, problems, must_be_built=not is_dry)
    run = run_options(arguments, options, options.display_name)
    if is_dry:
        return print_request(*recurring_runs.recurring_run_request(template, checked.values, run, timing), arguments)
    made = recurring_runs.RecurringRuns(kubeflow=Kubeflow(options=run)).create(template, checked.values, timing)
    return _tell(made, arguments)


def _tell(schedule: RemoteSchedule, arguments: Arguments) -> int:
    if "--json" in arguments.switches:
        print(json.dumps(schedule.to_json()))
        return 0
    print(schedule.name)
    where = f" --kubeflow {arguments.options['--kubeflow']}" if "--kubeflow" in arguments.options else ""
    due = [f"The first run is due at {schedule.next_run_time}."] if schedule.next_run_time else []
    print(*due, f"Pause it: tuneline schedule pause {schedule.name}{where}", sep="\n", file=sys.stderr)
    return 0
