"""The arguments of `tuneline schedule create`: those of a job, and when its runs are due."""

from dataclasses import replace

from tuneline.cli.submit_arguments import JOB_OPTIONS, SUBMIT, check_usage
from tuneline.cli.template_arguments import Arguments, Syntax, model_display_name
from tuneline.errors import UsageError
from tuneline.remote_schedule import Timing
from tuneline.templates import Template

_OF_ONE_JOB = ("--job-id", "--template-uri")
CREATE = Syntax(
    command="schedule create",
    usage=(
        "tuneline schedule create TEMPLATE --cron CRON --project PROJECT --pipeline-region REGION --pipeline-root URI [--PARAMETER VALUE ...] [OPTION ...]",
        "tuneline schedule create TEMPLATE --cron CRON --kubeflow HOST [--PARAMETER VALUE ...] [OPTION ...]",
    ),
    summary="Run a compiled template again and again, on Vertex AI, a tuning service (TUNELINE_VERTEX_ENDPOINT), or Kubeflow.",
    options={
        "--cron": ("CRON", "when runs are due: '0 3 * * 1', or 'TZ=Europe/Berlin 0 3 * * 1' for another zone than UTC"),
        **{flag: meaning for flag, meaning in JOB_OPTIONS.items() if flag not in _OF_ONE_JOB},
        "--display-name": ("TEXT", "name of the schedule for people; default: the model's, else base model and data"),
        "--labels": ("KEY=VALUE", "labels of the runs, several with commas between"),
        "--max-runs": ("NUMBER", "end after so many runs"),
        "--max-concurrent-runs": ("NUMBER", "runs at a time; default: 1"),
        "--start-time": ("TIME", "nothing is due before, like 2026-11-24T03:00:00Z"),
        "--end-time": ("TIME", "nothing is due after"),
        **{flag: SUBMIT.options[flag] for flag in ("--kubeflow", "--experiment", "--namespace")},
    },
    switches={
        "--allow-queueing": "a run that is due while others run waits; else it is left out",
        "--no-cache": "run every task, also when an earlier run had the same inputs",
        **{switch: SUBMIT.switches[switch] for switch in ("--dry-run", "--skip-preflight", "--json", "--help")},
    },
    filled_in={"model_display_name": "the schedule's name"},
)


def check(arguments: Arguments, template: Template | None) -> Template:
    """The template; raises UsageError with all that is missing, too much, or does not go together."""
    problems = [] if "--cron" in arguments.options else ["--cron is missing."]
    try:
        found = check_usage(arguments, template)
    except UsageError as error:
        problems += error.problems
    if problems:
        raise UsageError(*problems, next_action="tuneline schedule create --help tells more.")
    return found


def timing_of(arguments: Arguments) -> Timing:
    """When runs are due. Raises UsageError."""
    given = arguments.options
    numbers = {flag: given[flag] for flag in ("--max-runs", "--max-concurrent-runs") if flag in given}
    if wrong := [flag for flag, text in numbers.items() if not text.isdecimal()]:
        raise UsageError(*(f"{flag}: found {numbers[flag]!r}; expected a whole number." for flag in wrong))
    return Timing(
        cron=given["--cron"],
        max_concurrent_runs=int(given.get("--max-concurrent-runs", Timing.max_concurrent_runs)),
        max_runs=int(given.get("--max-runs", Timing.max_runs)),
        allow_queueing="--allow-queueing" in arguments.switches,
        start_time=given.get("--start-time", ""),
        end_time=given.get("--end-time", ""),
    )


def named(arguments: Arguments, template: Template) -> Arguments:
    """The arguments with names. The models of all runs have one name, without a day, so that they are versions of one model."""
    parameters, options = dict(arguments.parameters), dict(arguments.options)
    plain = model_display_name(parameters, template, moment=None)
    options["--display-name"] = options.get("--display-name") or parameters.get("model_display_name") or plain
    if "model_display_name" in template.inputs:
        parameters.setdefault("model_display_name", options["--display-name"])
    return replace(arguments, options=options, parameters=parameters)
