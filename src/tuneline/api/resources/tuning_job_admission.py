"""A request for a tuning job, checked as Vertex would and turned into a pipeline job: everything that is wrong with it comes in one answer."""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tuneline.api.admission import admit
from tuneline.api.faults import Fault, invalid
from tuneline.api.resources import tuning_job_rules as rules
from tuneline.api.resources.tuning_job_catalog import catalog_of
from tuneline.api.resources.tuning_job_files import DataFile, check_output, is_absolute, look_at
from tuneline.api.resources.tuning_job_messages import SupervisedTuningSpec, TuningJob
from tuneline.api.resources.tuning_job_schedule import MAX_STEPS, RECOMMENDED_EPOCHS, Schedule, schedule
from tuneline.api.resources.tuning_job_sources import Source, custom_model_problems, find_source
from tuneline.api.service import Place, Service
from tuneline.catalog import Catalog
from tuneline.catalog.base_model import BaseModel, resolve_base_model
from tuneline.data.examples import Tally
from tuneline.data.file_validation import DataRole, count_findings
from tuneline.errors import ParameterError
from tuneline.hardware import has_gpu
from tuneline.resolution import Limits
from tuneline.templates import load

NOTHING_KNOWN = Schedule(epochs=1, batch_size=1, steps_per_epoch=1, interval=1, steps=1)
"""Stands in for the schedule of a request that will be refused."""


@dataclass(frozen=True, kw_only=True)
class TuningPlan:
    """A tuning job that may run."""

    reference: str
    """The base model, as the catalogue spells it."""
    display_name: str
    template: str
    schedule: Schedule
    parameters: dict[str, Any]
    """Of the pipeline job that does the work."""


def plan_of(service: Service, place: Place, job: TuningJob) -> TuningPlan:
    """What the job will do, or a Fault with all its problems."""
    problems = list(rules.request_problems(job, place.location))
    catalog, catalog_uri = catalog_of(service, place.location)
    spec = job.supervised_tuning_spec or SupervisedTuningSpec()
    source = find_source(service, job, problems)
    base = _base_model(catalog, source)
    training = look_at(f"{rules.SPEC}.trainingDatasetUri", spec.training_dataset_uri, problems) if spec.training_dataset_uri else None
    validation = look_at(f"{rules.SPEC}.validationDatasetUri", spec.validation_dataset_uri, problems) if spec.validation_dataset_uri else None
    if base:
        problems += rules.model_problems(spec, base)
        if job.custom_base_model and is_absolute("customBaseModel", job.custom_base_model, problems):
            problems += custom_model_problems(job.custom_base_model, base)
    if job.output_uri:
        check_output("outputUri", job.output_uri, problems)
    planned = _schedule(spec, training, base, problems) or NOTHING_KNOWN
    name = job.tuned_model_display_name or (source.display_name if source else "") or f"tuned-model-{uuid.uuid4().hex[:8]}"
    template = rules.template_of(base.kind if base else "any", training.data_format if training else "")
    parameters = {**_parameters(place, spec, planned), **_model_parameters(source), "model_display_name": name, "catalog_uri": catalog_uri}
    told = {_field(problem) for problem in problems}
    problems += [problem for problem in _run_problems(template, parameters, place, catalog) if _field(problem) not in told]
    problems += _count_problems(training, validation, base) if base else ()
    if problems:
        raise invalid(*dict.fromkeys(problems))
    return TuningPlan(reference=str(parameters["large_model_reference"]), display_name=name, template=template, schedule=planned, parameters=parameters)


def _base_model(catalog: Catalog, source: Source | None) -> BaseModel | None:
    """What the reference stands for. What is wrong with it is told by the run's own check."""
    try:
        return resolve_base_model(catalog, source.reference, base_model_uri=source.base_model_uri) if source else None
    except ParameterError:
        return None


def _count_problems(training: DataFile | None, validation: DataFile | None, base: BaseModel) -> Iterator[str]:
    """What the numbers of examples have wrong."""
    files: tuple[tuple[str, DataRole, DataFile | None], ...] = (("trainingDatasetUri", "train", training), ("validationDatasetUri", "evaluation", validation))
    for name, role, file in files:
        if file:
            yield from (f"{rules.SPEC}.{name}: {message}" for message in _findings(file, role, base.limits))
    if training and validation and rules.is_open(base.resolved.reference) and (problem := rules.share_problem(training.examples, validation.examples)):
        yield problem


def _findings(file: DataFile, role: DataRole, limits: Limits) -> Iterator[str]:
    tally = Tally(lines=file.examples, examples=file.examples)
    yield from (finding.message for finding in count_findings(tally, role, limits))


def _schedule(spec: SupervisedTuningSpec, training: DataFile | None, base: BaseModel | None, problems: list[str]) -> Schedule | None:
    """Steps for the epochs; nothing when too little is known."""
    given = spec.hyper_parameters
    epochs = RECOMMENDED_EPOCHS if given.epoch_count is None else given.epoch_count
    batch_size = base.row.local_batch_size if given.batch_size is None and base else given.batch_size or 0
    if not training or not training.examples or epochs < 1 or batch_size < 1:
        return None
    planned = schedule(examples=training.examples, epochs=epochs, batch_size=batch_size)
    if planned.steps > MAX_STEPS:
        problems.append(f"{rules.HYPER}.epochCount: found {epochs}, which is {planned.steps:,} steps; expected at most {MAX_STEPS:,} steps. Take fewer epochs.")
        return None
    return planned


def _parameters(place: Place, spec: SupervisedTuningSpec, planned: Schedule) -> dict[str, Any]:
    """Of the template. Vertex trains all epochs and takes the last checkpoint, so nothing is stopped or chosen by evaluation."""
    given = spec.hyper_parameters
    rates = {"learning_rate": given.learning_rate, "learning_rate_multiplier": given.learning_rate_multiplier}
    return {
        "project": place.project,
        "location": place.location,
        "dataset_uri": spec.training_dataset_uri,
        "evaluation_data_uri": spec.validation_dataset_uri,
        "overlength_policy": "truncate",
        "train_steps": planned.steps,
        "batch_size": planned.batch_size,
        "evaluation_interval": planned.interval,
        "enable_early_stopping": False,
        "enable_checkpoint_selection": "false",
        **{name: rate for name, rate in rates.items() if rate is not None},
    }


def _model_parameters(source: Source | None) -> dict[str, Any]:
    """A tuned Gemini has an endpoint as soon as it is there; an open model is deployed by whoever wants to pay for it."""
    if source is None:
        return {"large_model_reference": ""}
    return {"large_model_reference": source.reference, "base_model_uri": source.base_model_uri, "deploy_model": not rules.is_open(source.reference)}


def _run_problems(template: str, parameters: Mapping[str, Any], place: Place, catalog: Catalog) -> Iterator[str]:
    """What the run's own check says, with the names of the request's fields. It is made again when the pipeline job is created."""
    try:
        admit(load(template), parameters, location=place.location, catalog=catalog, catalog_uri="", encryption_key="", has_gpu=has_gpu())
    except Fault as fault:
        for line in str(fault).splitlines():
            name = line.partition(":")[0].partition(" contains ")[0]
            if name == "pipeline region" or (name == "large_model_reference" and not parameters[name]):
                continue  # told as location, and as a missing baseModel
            yield line.replace(name, rules.FIELDS.get(name, name), 1)


def _field(problem: str) -> str:
    return problem.partition(":")[0]
