"""A template's parameters before they are sent to an orchestrator: in their types, and checked as the first task will check them. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from tuneline.catalog import Catalog
from tuneline.data.base_model import architecture_problems
from tuneline.errors import ParameterError
from tuneline.parameters import TuningParameters
from tuneline.resolution import Resolved
from tuneline.templates import Json, Template, coerce
from tuneline.validation import check, not_built_yet, without_effect

TUNING_INPUTS = frozenset({"large_model_reference", "dataset_uri", "location"})
"""A template with these inputs is one of ours, or takes the same parameters."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Parameters and everything that can be said about them here."""

    values: Mapping[str, Json]
    """What was given, in the template's types and in the order in which it was given; defaults are left to the template."""
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    unbuilt: tuple[str, ...]
    """What can be asked for, and what the job's first task refuses."""
    resolved: Resolved | None
    """Nothing when there is a problem, or when the template is no tuning template."""


def check_parameters(template: Template, given: Mapping[str, object], *, pipeline_location: str, catalog: Catalog, runs_here: bool = False) -> Checked:
    """All problems at once. Whether there is a GPU outside Vertex is left to the task that will be there.

    `runs_here`: for a tuning service, which checks a job for its region and then runs it on its own machine.
    """
    values: dict[str, Json] = {}
    problems: list[str] = []
    for name, value in given.items():
        try:
            values |= coerce(replace(template, inputs={name: template.inputs[name]}), {name: value})
        except ParameterError as error:
            problems += error.problems
    problems += [f"{name} is missing: {known.description}".rstrip(": ") for name, known in template.inputs.items() if not known.optional and name not in given]
    if not template.inputs.keys() >= TUNING_INPUTS:
        return Checked(values=values, problems=tuple(problems), warnings=(), unbuilt=(), resolved=None)
    told = {match[0] for problem in problems if (match := re.match(r"\w+", problem))}
    parameters = _group(template, values)
    findings = check(parameters, template=template.name, catalog=catalog, pipeline_location=pipeline_location, has_gpu=True)
    problems += [problem for problem in findings.problems if problem.partition(":")[0] not in told]
    resolved = findings.resolved if not problems else None
    unbuilt = tuple(not_built_yet(resolved)) if resolved and not runs_here else ()
    unbuilt += tuple(architecture_problems(catalog, resolved.base_model.reference)) if resolved else ()
    warnings = tuple(without_effect(parameters, "local")) if runs_here else findings.warnings
    return Checked(values=values, problems=tuple(problems), warnings=warnings, unbuilt=unbuilt, resolved=resolved)


def _group(template: Template, values: Mapping[str, Json]) -> TuningParameters:
    """The parameters as the first task gets them, with something in the place of what is missing or of no use."""
    known = {**{name: given.default for name, given in template.inputs.items() if given.default is not None}, **values}
    group: dict[str, Any] = {field.name: known[field.name] for field in fields(TuningParameters) if field.name in known}
    return TuningParameters(**{"project": "any", "model_display_name": "any", **group})
