"""A request for a tuning pipeline, checked as Vertex would and made fit for this machine.

Regions, keys, TensorBoards and accelerators are checked against the region in the request's address, so that a request that Vertex would
refuse is refused here. What only Google's cloud has (a region, a TPU, a key) is then recorded, and the job runs on what is here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from tuneline.api.faults import invalid
from tuneline.catalog import Catalog
from tuneline.data.base_model import architecture_problems
from tuneline.errors import ParameterError, UsageError
from tuneline.local.run_record import LOCATION
from tuneline.parameters import TuningParameters
from tuneline.placement import Request, resolve_placement
from tuneline.templates import Json, Template, coerce
from tuneline.validation import check

CLOUD_ONLY = ("accelerator_type", "encryption_spec_key_name", "tensorboard_resource_id")
"""Parameters that the request is checked for and the local run does not get."""


@dataclass(frozen=True, kw_only=True)
class Admission:
    """A job that may run."""

    parameters: Mapping[str, Json]
    """As the request meant them, with their types and defaults."""
    run_parameters: Mapping[str, Json]
    """What the run on this machine gets."""
    notes: tuple[str, ...]
    """What is different here from what was asked for."""


def admit(
    template: Template, given: Mapping[str, object], *, location: str, catalog: Catalog, catalog_uri: str, encryption_key: str, has_gpu: bool
) -> Admission:
    """The job, or a Fault with everything that is wrong. `location` is the region in the request's address."""
    values, wrong = _typed(template, given)
    if not set(template.inputs) >= {"large_model_reference", "dataset_uri", "location"}:  # no tuning template of ours: the engine checks what it can
        if wrong:
            raise invalid(*wrong)
        return Admission(parameters=values, run_parameters=values, notes=())
    values = {**values, "location": values.get("location") or location}
    if encryption_key and not values["encryption_spec_key_name"]:
        values["encryption_spec_key_name"] = encryption_key
    problems = [*wrong, *([] if location == LOCATION else _placement_problems(values, location, catalog))]
    here = {**values, **dict.fromkeys(CLOUD_ONLY, ""), "catalog_uri": values.get("catalog_uri") or catalog_uri}
    group: dict[str, Any] = {field.name: here[field.name] for field in fields(TuningParameters) if field.name in here}
    findings = check(TuningParameters(**group), template=template.name, catalog=catalog, pipeline_location=LOCATION, has_gpu=has_gpu)
    told = {problem.replace(":", " ").partition(" ")[0] for problem in problems}  # a parameter that Vertex would refuse needs no second reason
    problems += [problem for problem in findings.problems if problem.partition(":")[0] not in told]
    problems += [] if problems or findings.resolved is None else architecture_problems(catalog, findings.resolved.base_model.reference)
    if problems:
        raise invalid(*problems)
    notes = [*_notes(values, location, has_gpu=has_gpu), *findings.warnings]
    return Admission(parameters=values, run_parameters=here, notes=tuple(notes))


def _typed(template: Template, given: Mapping[str, object]) -> tuple[dict[str, Json], list[str]]:
    """The values in their types, and what is wrong with those that have none: the rest is checked all the same. A Fault when too much is missing for that."""
    try:
        return coerce(template, given), []
    except (ParameterError, UsageError) as error:
        problems = list(error.problems)
    told = {problem.partition(" ")[0] for problem in problems}
    try:
        return coerce(template, {name: value for name, value in given.items() if name in template.inputs and name not in told}), problems
    except ParameterError:
        raise invalid(*problems) from None


def _placement_problems(values: Mapping[str, Json], location: str, catalog: Catalog) -> list[str]:
    request = Request(
        pipeline_location=location,
        location=str(values["location"]),
        accelerator_type=str(values["accelerator_type"]),
        encryption_spec_key_name=str(values["encryption_spec_key_name"]),
        tensorboard_resource_id=str(values["tensorboard_resource_id"]),
    )
    try:
        resolve_placement(catalog, request, sequence_length=1, local_batch_size=1, has_gpu=False)
    except ParameterError as error:
        return list(error.problems)
    return []


def _notes(values: Mapping[str, Json], location: str, *, has_gpu: bool) -> list[str]:
    notes = [f"The pipeline runs on this machine; {location} is recorded as its region."] if location != LOCATION else []
    if values["accelerator_type"] == "TPU" or (values["accelerator_type"] == "GPU" and not has_gpu):
        notes.append(f"accelerator_type {values['accelerator_type']}: this machine has none, so the model is tuned on {'its GPU' if has_gpu else 'its CPU'}.")
    if values["encryption_spec_key_name"]:
        notes.append("encryption_spec_key_name is recorded; files on this machine are as well protected as its disk.")
    return notes
