"""Register the tuned model, once for each pipeline job. Writes an empty name when upload_model is false."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tuneline.evaluation.results import Evaluation
from tuneline.interface import parse
from tuneline.parameters import UploadModel
from tuneline.registry.files import write_json
from tuneline.registry.models import NOTHING, Registration
from tuneline.resolution import Resolved
from tuneline.steps import OutputArtifact, artifact_uri, labelled_by_run, run_step, write_outputs
from tuneline.steps.registering import Order, register


@dataclass(frozen=True, kw_only=True)
class Files:
    """Inputs and outputs."""

    pipeline_job_name: str
    serving_image: str
    resolved: Path
    model: Path
    evaluation: Path
    selected: Path
    history: Path
    output_uploaded: Path
    output_model_resource_name: Path
    executor_output: Path


FLAGS = (UploadModel, Files)


def main(argv: Sequence[str]) -> None:
    parameters, files = parse(argv, *FLAGS)
    registered, resolved = NOTHING, Resolved.read(files.resolved)
    if parameters.upload_model:
        selected, base = json.loads(files.selected.read_text(encoding="utf-8")), resolved.base_model
        registration = Registration(
            project=parameters.project, location=resolved.upload_region, display_name=parameters.model_display_name, step=selected["selected_step"],
            metrics=Evaluation.read(files.evaluation).metrics_of(selected["selected_step"]), pipeline_job_name=files.pipeline_job_name,
            base_model=base.reference, stands_in=base.stands_in, data_fingerprint=resolved.data_fingerprint, resource=labelled_by_run(),
        )  # fmt: skip
        order = Order(registration=registration, parameters=parameters, resolved=resolved, promotion=selected.get("promotion"))
        registered = register(files.model, order, serving_image=files.serving_image, history=files.history)
    write_json(files.output_uploaded, registered.record)
    name = registered.resource_name
    uploaded = OutputArtifact(uri=artifact_uri(files.output_uploaded), metadata={"resourceName": name} if name else {})
    write_outputs(files.executor_output, artifacts={"uploaded": uploaded}, parameters={files.output_model_resource_name: name})


if __name__ == "__main__":
    run_step("upload-model", main)
