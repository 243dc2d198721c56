"""Resolve regions, machine, batch size and base model, and refuse what cannot work before anything is paid for."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tuneline import registry
from tuneline.catalog import load_catalog
from tuneline.errors import ParameterError
from tuneline.hardware import has_gpu
from tuneline.inputs import examine_inputs
from tuneline.interface import parse
from tuneline.parameters import TuningParameters
from tuneline.placement import pipeline_location_of
from tuneline.steps import OutputArtifact, artifact_uri, run_step, write_outputs
from tuneline.storage import Storage
from tuneline.validation import check

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the pipeline adds to the user's parameters, and the outputs."""

    template_name: str
    pipeline_location: str
    """A JSON list of one region."""
    output_resolved: Path
    output_dataset_fingerprint: Path
    executor_output: Path


FLAGS = (TuningParameters, Job)


def main(argv: Sequence[str]) -> None:
    parameters, job = parse(argv, TuningParameters, Job)
    catalog = load_catalog(Storage().read_text(parameters.catalog_uri) if parameters.catalog_uri else None, parameters.catalog_uri)
    location = pipeline_location_of(job.pipeline_location, os.environ)
    uri = artifact_uri(job.output_resolved)
    findings = check(parameters, template=job.template_name, catalog=catalog, pipeline_location=location, has_gpu=has_gpu(), root=uri)
    for warning in findings.warnings:
        LOG.warning(warning)
    inputs, resolved = examine_inputs(parameters, findings, catalog, storage=Storage(), downloads=registry.home() / "downloads"), findings.resolved
    if resolved is None or inputs.problems:
        raise ParameterError(*findings.problems, *inputs.problems)
    for reason in resolved.reasons:
        LOG.info(reason)
    metadata = {"base_model": resolved.base_model.stands_in or resolved.base_model.reference, "batch_size": resolved.batch_size}
    artifact = OutputArtifact(uri=uri, metadata=metadata)
    job.output_resolved.parent.mkdir(parents=True, exist_ok=True)
    job.output_resolved.write_text(resolved.to_json(), encoding="utf-8")
    write_outputs(job.executor_output, artifacts={"resolved": artifact}, parameters={job.output_dataset_fingerprint: inputs.fingerprint})


if __name__ == "__main__":
    run_step("validate-parameters", main)
