"""`tuneline explain TEMPLATE ...`: the regions, machine and batch size that a job would get, and why."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from tuneline.cli.template_arguments import Arguments, Syntax, help_text, split, template_reference
from tuneline.cli.template_source import load_template
from tuneline.errors import ParameterError, UsageError
from tuneline.templates import Template, coerce

if TYPE_CHECKING:
    from tuneline.resolution import Resolved

SHOWN = ("pipeline_region", "upload_region", "tuning_region", "machine_type", "accelerator_type", "accelerator_count", "batch_size")
PLAIN = {"project": "any", "model_display_name": "any", "dataset_uri": "gs://any/any.jsonl"}
"""What stands for required parameters that decide nothing about where a job runs."""
SYNTAX = Syntax(
    command="explain",
    usage=("tuneline explain TEMPLATE --pipeline-region REGION [--PARAMETER VALUE ...] [OPTION ...]",),
    summary="Show the regions, machine and batch size that a job would get, and why.",
    options={
        "--pipeline-region": ("REGION", "region of the pipeline job, or 'local' for this machine; required"),
        "--catalog": ("FILE", "TOML file (path or gs:// URI) with catalogue rows laid over the built-in ones"),
    },
    switches={
        "--check-buckets": "ask Cloud Storage where the job's buckets are, and warn when they are far away",
        "--json": "print one JSON object",
        "--help": "show this text; after a template also its parameters",
    },
    filled_in=dict.fromkeys(PLAIN, "may be left out here"),
)


def main(argv: Sequence[str]) -> int:
    reference = template_reference(argv)
    template = load_template(reference)[0] if reference is not None else None
    arguments = split(argv, template.inputs if template else {}, SYNTAX)
    if "--help" in arguments.switches:
        print(help_text(template, SYNTAX))
        return 0
    return _explain(arguments, _checked(arguments, template))


def _checked(arguments: Arguments, template: Template | None) -> Template:
    problems = [f"unexpected argument {extra!r}." for extra in arguments.templates[1 if template else 0 :]]
    problems += [] if arguments.templates else ["TEMPLATE is missing; expected a template's name or a .yaml file."]
    problems += [] if "--pipeline-region" in arguments.options else ["--pipeline-region is missing."]
    if problems or template is None:
        raise UsageError(*problems, next_action="tuneline explain --help tells more.")
    if "large_model_reference" not in template.inputs:
        raise ParameterError(f"{arguments.templates[0]}: has no parameter large_model_reference; expected a tuning template.")
    return template


def _explain(arguments: Arguments, template: Template) -> int:
    from tuneline.catalog_file import read_catalog
    from tuneline.data.base_model import architecture_problems
    from tuneline.hardware import has_gpu
    from tuneline.parameters import TuningParameters
    from tuneline.validation import check, not_built_yet

    # The same check as the first task's, with something in the parameters that do not decide where a job runs.
    values = coerce(template, {**{name: value for name, value in PLAIN.items() if name in template.inputs}, **arguments.parameters})
    known = {field.name for field in fields(TuningParameters)}
    parameters = TuningParameters(**{name: value for name, value in values.items() if name in known})  # type: ignore[arg-type]  # coerced to their types
    catalog = read_catalog(arguments.options.get("--catalog", ""))
    region = arguments.options["--pipeline-region"]
    findings = check(parameters, template=template.name, catalog=catalog, pipeline_location=region, has_gpu=has_gpu())
    if findings.resolved is None:
        raise ParameterError(*findings.problems)
    buckets = _bucket_warnings(arguments.parameters, findings.resolved) if "--check-buckets" in arguments.switches else []
    for warning in (*findings.warnings, *buckets, *not_built_yet(findings.resolved), *architecture_problems(catalog, findings.resolved.base_model.reference)):
        print(warning, file=sys.stderr)
    answer = {name: getattr(findings.resolved, name) for name in SHOWN}
    if "--json" in arguments.switches:
        print(json.dumps({**answer, "reasons": findings.resolved.reasons}))
    else:
        width = max(map(len, SHOWN))
        print(*(f"{name:<{width}}  {value}".rstrip() for name, value in answer.items()), "", *findings.resolved.reasons, sep="\n")
    return 0


def _bucket_warnings(parameters: Mapping[str, str], resolved: "Resolved") -> list[str]:
    from tuneline.placement import bucket_warnings
    from tuneline.vertex.objects import Objects, locations

    return bucket_warnings(resolved, locations(Objects(), parameters))
