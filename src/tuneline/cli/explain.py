"""`tuneline explain TEMPLATE ...`: the regions, machine and batch size that a job would get, and why."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from tuneline.errors import ParameterError, UsageError

if TYPE_CHECKING:
    from tuneline.resolution import Resolved

SHOWN = ("pipeline_region", "upload_region", "tuning_region", "machine_type", "accelerator_type", "accelerator_count", "batch_size")
PLAIN = {"project": "any", "model_display_name": "any", "dataset_uri": "gs://any/any.jsonl"}
"""What stands for required parameters that decide nothing about where a job runs."""


def parser() -> argparse.ArgumentParser:
    """The options of the command itself; every other flag is a parameter of the template."""
    parser = argparse.ArgumentParser(
        prog="tuneline explain",
        usage="tuneline explain TEMPLATE --pipeline-region R [--PARAMETER VALUE ...]",
        description="Show the regions, machine and batch size that a job would get, and why.",
        epilog="Every parameter of the template is a flag, as in tuneline run; those that decide nothing may be left out.",
        allow_abbrev=False,
    )
    parser.add_argument("template", metavar="TEMPLATE", help="a template's name, file or URI, e.g. tune-large-model")
    parser.add_argument("--pipeline-region", metavar="R", required=True, help="region of the pipeline job, or 'local' for this machine")
    parser.add_argument("--catalog", metavar="FILE", help="TOML file (path or gs:// URI) with catalogue rows laid over the built-in ones")
    parser.add_argument("--check-buckets", action="store_true", help="ask Cloud Storage where the job's buckets are, and warn when they are far away")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(argv: Sequence[str]) -> int:
    given, rest = parser().parse_known_args(argv)
    from tuneline import templates
    from tuneline.catalog import load_catalog
    from tuneline.cli.template_arguments import Syntax, split
    from tuneline.hardware import has_gpu
    from tuneline.parameters import TuningParameters
    from tuneline.validation import check, not_built_yet

    template = templates.load(given.template)
    if "large_model_reference" not in template.inputs:
        raise ParameterError(f"{given.template}: has no parameter large_model_reference; expected a tuning template.")
    arguments = split(rest, template.inputs, Syntax(command="explain", usage=(), summary="", options={}, switches={}))
    if arguments.templates:
        raise UsageError(*(f"unexpected argument {argument!r}." for argument in arguments.templates), next_action="tuneline explain --help tells more.")
    # The same check as the first task's, with something in the parameters that do not decide where a job runs.
    values = templates.coerce(template, {**{name: value for name, value in PLAIN.items() if name in template.inputs}, **arguments.parameters})
    known = {field.name for field in fields(TuningParameters)}
    parameters = TuningParameters(**{name: value for name, value in values.items() if name in known})  # type: ignore[arg-type]  # coerced to their types
    catalog = load_catalog(_read(given.catalog), given.catalog) if given.catalog else load_catalog()
    findings = check(parameters, template=template.name, catalog=catalog, pipeline_location=given.pipeline_region, has_gpu=has_gpu())
    if findings.resolved is None:
        raise ParameterError(*findings.problems)
    buckets = _bucket_warnings(arguments.parameters, findings.resolved) if given.check_buckets else []
    for warning in (*findings.warnings, *buckets, *not_built_yet(parameters, findings.resolved)):
        print(warning, file=sys.stderr)
    answer = {name: getattr(findings.resolved, name) for name in SHOWN}
    if given.json:
        print(json.dumps({**answer, "reasons": findings.resolved.reasons}))
    else:
        width = max(map(len, SHOWN))
        print(*(f"{name:<{width}}  {value}".rstrip() for name, value in answer.items()), "", *findings.resolved.reasons, sep="\n")
    return 0


def _read(uri: str) -> str:
    from tuneline.storage import Storage

    return Storage().read_text(uri)


def _bucket_warnings(parameters: Mapping[str, str], resolved: "Resolved") -> list[str]:
    from tuneline.placement import bucket_warnings
    from tuneline.vertex.objects import Objects, locations

    return bucket_warnings(resolved, locations(Objects(), parameters))
