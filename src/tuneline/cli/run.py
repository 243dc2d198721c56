"""`tuneline run TEMPLATE ...`: run a compiled template on this machine, or go on with a stopped run."""

import json
import math
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tuneline.cli.run_arguments import SYNTAX, complete
from tuneline.cli.template_arguments import Arguments, help_text, split, template_reference
from tuneline.cli.template_source import load_template
from tuneline.errors import TunelineError, UsageError, did_you_mean
from tuneline.local import engine
from tuneline.local.containers import ENGINES
from tuneline.local.display import choose_display, clock
from tuneline.local.extras import check_extras
from tuneline.local.limits import Limits, cpu_count, memory_bytes
from tuneline.local.results import Result, read_result
from tuneline.local.run_folder import RunFolder, default_runs_dir
from tuneline.local.run_record import RunRecord, seconds_between
from tuneline.local.task_containers import ContainerOptions
from tuneline.templates import Template

_CONTAINER_OPTIONS = ("--container-engine", "--container-memory", "--container-cpus")


def main(argv: Sequence[str]) -> int:
    """Run; with `--json` an error is told on standard output, too."""
    try:
        return _run(argv)
    except TunelineError as error:
        if "--json" in argv:
            failure = {"code": error.exit_code, "attribution": error.attribution, "step": "", "cause": str(error), "next_action": error.next_action}
            print(json.dumps({"run": "", "state": "PIPELINE_STATE_FAILED", "error": failure}))
            error.is_told = True
        raise


def _run(argv: Sequence[str]) -> int:
    reference = template_reference(argv)
    template, source = load_template(reference) if reference is not None else (None, "")
    arguments = split(argv, template.inputs if template else {}, SYNTAX)
    if "--help" in arguments.switches:
        print(help_text(template, SYNTAX))
        return 0
    _check(arguments, template)
    runs_dir = Path(arguments.options["--runs-dir"]) if "--runs-dir" in arguments.options else default_runs_dir()
    options = engine.Options(
        grace_seconds=_seconds(arguments.options.get("--grace", "25")),
        caching="--no-cache" not in arguments.switches,
        show_logs="--logs" in arguments.switches,
        containers=_containers(arguments),
    )
    resumed = RunFolder.find(arguments.options["--resume"], runs_dir) if "--resume" in arguments.options else None
    display = choose_display(quiet="--quiet" in arguments.switches)
    if resumed is not None:
        record = engine.resume(resumed.path, options=options, display=display)
    elif template is not None:
        parameters = complete(_with_catalog(arguments, template), template, moment=datetime.now().astimezone())
        check_extras(template, parameters, in_containers=options.containers is not None)
        name = arguments.options.get("--name")
        record = engine.run(template, parameters, runs_dir=runs_dir, name=name, source=source, options=options, display=display)
    folder = resumed or RunFolder((runs_dir / record.name).absolute())
    _tell(folder, record, as_json="--json" in arguments.switches)
    return record.exit_code


def _check(arguments: Arguments, template: Template | None) -> None:
    problems = [f"unexpected argument {extra!r}." for extra in arguments.templates[1:]]
    if "--resume" in arguments.options:
        problems += [f"--resume goes on with the run's own {what}; leave out {given}." for what, given in _superseded(arguments)]
    elif template is None:
        problems += [f"unexpected argument {extra!r}; the template comes first." for extra in arguments.templates[:1]]
        problems += [] if arguments.templates else ["TEMPLATE is missing; expected a template's name or a .yaml file."]
    elif "--containers" not in arguments.switches:
        problems += [f"{option} is for runs in containers; give --containers, too." for option in _CONTAINER_OPTIONS if option in arguments.options]
    if problems:
        raise UsageError(*problems, next_action="tuneline run --help tells more.")


def _superseded(arguments: Arguments) -> list[tuple[str, str]]:
    given = [("parameters", f"--{name.replace('_', '-')}") for name in arguments.parameters]
    fixed = (("name", "--name"), ("parameters", "--catalog"), ("containers", "--containers"), ("container engine", "--container-engine"))
    return given + [(what, option) for what, option in fixed if option in arguments.options or option in arguments.switches]


def _containers(arguments: Arguments) -> ContainerOptions | None:
    """What was asked for; a resumed run has its own, and takes only new limits."""
    given, problems = arguments.options, []
    if "--containers" not in arguments.switches and not any(option in given for option in _CONTAINER_OPTIONS):
        return None
    name, limits = next((name for name in ENGINES if name == given.get("--container-engine")), None), Limits()
    if name is None and "--container-engine" in given:
        problems.append(f"--container-engine is {given['--container-engine']!r}; expected {' or '.join(ENGINES)}.")
    try:
        limits = Limits(memory_bytes=memory_bytes(given["--container-memory"]) if "--container-memory" in given else 0)
    except ValueError as error:
        problems.append(f"--container-memory: {error}.")
    try:
        limits = Limits(cpus=cpu_count(given["--container-cpus"]) if "--container-cpus" in given else 0.0).over(limits)
    except ValueError as error:
        problems.append(f"--container-cpus: {error}.")
    if problems:
        raise UsageError(*problems)
    return ContainerOptions(engine=name, limits=limits)


def _with_catalog(arguments: Arguments, template: Template) -> dict[str, str]:
    parameters = dict(arguments.parameters)
    if "--catalog" in arguments.options:
        if "catalog_uri" not in template.inputs:
            raise UsageError(f"{template.name} has no parameter catalog_uri, which --catalog sets.{did_you_mean('catalog_uri', template.inputs)}")
        if "catalog_uri" in parameters:
            raise UsageError("--catalog and --catalog-uri are the same parameter; give one of them.")
        parameters["catalog_uri"] = arguments.options["--catalog"]
    return parameters


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise UsageError(f"--grace is {text!r}; expected a number of seconds.")
    return value


def _tell(folder: RunFolder, record: RunRecord, *, as_json: bool) -> None:
    result = read_result(folder, record)
    if as_json:
        answer: dict[str, object] = {
            "run": record.name,
            "state": record.state,
            "model_resource_name": result.model_resource_name,
            "endpoint_resource_name": result.endpoint_resource_name,
            "selected_step": result.selected_step,
            "metrics": {"base": dict(result.base_metrics), "tuned": dict(result.tuned_metrics)},
            "run_dir": str(folder.path),
            "report": result.report,
            "skipped": result.skipped,
            "promotion": result.promotion,
        }
        print(json.dumps(answer | ({"error": record.error.to_json()} if record.error else {})))
    elif record.error is None:
        print(*_summary(folder, record, result), sep="\n")
    if record.error is not None:
        log = f"Log: {record.error.log}" if record.error.log else ""
        print("", *filter(None, [record.error.cause, record.error.next_action, log, f"Run: {folder.path}"]), sep="\n", file=sys.stderr)


def _summary(folder: RunFolder, record: RunRecord, result: Result) -> list[str]:
    lines = [f"{record.name} succeeded in {clock(seconds_between(record.start_time, record.end_time))}."]
    lines += [f"Skipped: {result.skipped}"] if result.skipped else [result.promotion] if result.promotion else []
    if result.tuned_metrics:
        lines.append(f"{'metric':<16} {'base':>10} {'tuned':>10}")
    for metric, tuned in result.tuned_metrics.items():
        base = result.base_metrics.get(metric)
        if isinstance(tuned, float) and isinstance(base, float | int):
            lines.append(f"{metric:<16} {base:>10.4f} {tuned:>10.4f}")
    named = {"step": result.selected_step, "report": result.report, "model": result.model_resource_name, "endpoint": result.endpoint_resource_name}
    lines += [f"{name:<9} {value}" for name, value in {**named, "run": folder.path}.items() if value not in (None, "")]
    if result.endpoint_resource_name:
        endpoint = result.endpoint_resource_name.rpartition("/")[2]
        lines += ["", f"Ask it:   tuneline predict {endpoint} --prompt 'TEXT'", f"Stop it:  tuneline endpoints undeploy {endpoint}"]
    return lines
