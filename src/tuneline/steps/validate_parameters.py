"""Resolve regions, machine, batch size and base model, and refuse what cannot work before anything is paid for."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tuneline import registry
from tuneline.catalog_file import read_catalog
from tuneline.errors import ParameterError
from tuneline.hardware import has_gpu
from tuneline.inputs import examine_inputs
from tuneline.interface import parse
from tuneline.parameters import TuningParameters
from tuneline.placement import pipeline_location_of
from tuneline.steps import OutputArtifact, artifact_uri, lineage, run_step, skipping, write_outputs, write_text
from tuneline.storage import Storage
from tuneline.validation import check


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
    storage, where, root = Storage(), pipeline_location_of(job.pipeline_location, os.environ), artifact_uri(job.output_resolved)
    catalog = read_catalog(parameters.catalog_uri)
    findings = check(parameters, template=job.template_name, catalog=catalog, pipeline_location=where, has_gpu=has_gpu(), root=root)
    for warning in findings.warnings:
        logging.warning(warning)
    findings = replace(findings, resolved=lineage.with_champion(parameters, findings.resolved))
    inputs = examine_inputs(parameters, findings, catalog, storage=storage, downloads=registry.home() / "downloads")
    if findings.resolved is None or inputs.problems:
        raise ParameterError(*findings.problems, *inputs.problems)
    resolved = lineage.with_skip_reason(parameters, replace(findings.resolved, data_fingerprint=inputs.data_fingerprint))
    for reason in resolved.reasons:
        logging.info(reason)
    # What a run that skips puts out must never be taken from a cache by one that does not.
    fingerprint = f"skipped-{inputs.fingerprint}" if resolved.skip_reason else inputs.fingerprint
    metadata = {"batch_size": resolved.batch_size, **resolved.base_model.metadata(), **skipping.skip_metadata(resolved)}
    write_text(job.output_resolved, resolved.to_json())
    artifacts, outputs = {"resolved": OutputArtifact(uri=root, metadata=metadata)}, {job.output_dataset_fingerprint: fingerprint}
    write_outputs(job.executor_output, artifacts=artifacts, parameters=outputs)


if __name__ == "__main__":
    run_step("validate-parameters", main)
