"""Deploy the tuned model. Writes an empty name when deploy_model is false.

On this machine that is the record from which the engine starts a server: as a child of this task it would end with it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuneline.errors import ParameterError
from tuneline.interface import parse
from tuneline.parameters import DeployModel
from tuneline.registry.models import RUN_LABEL, label
from tuneline.resolution import Resolved
from tuneline.steps import OutputArtifact, artifact_uri, labels_of_run, run_step, write_outputs
from tuneline.steps.deploying import Order, deploy


@dataclass(frozen=True, kw_only=True)
class Files:
    """Inputs and outputs."""

    pipeline_job_name: str
    model_resource_name: str
    resolved: Path
    undeploy_image: str
    """Container image of the task that takes the model off again."""
    model: Path
    """On this machine only its registered copy is served: a run's folder may be deleted."""
    output_endpoint: Path
    output_endpoint_resource_name: Path
    executor_output: Path


FLAGS = (DeployModel, Files)


def main(argv: Sequence[str]) -> None:
    parameters, files = parse(argv, DeployModel, Files)
    record: Mapping[str, object] = {}
    name = ""
    is_kept_out = parameters.upload_model and not files.model_resource_name  # by the champion's gate
    if parameters.deploy_model and not is_kept_out:
        if not files.model_resource_name:
            raise ParameterError("deploy_model: only a registered model can be deployed.", next_action="Set upload_model to true, or deploy_model to false.")
        labels = {**labels_of_run(), RUN_LABEL: label(files.pipeline_job_name)}
        order = Order(model=files.model_resource_name, parameters=parameters, resolved=Resolved.read(files.resolved), labels=labels)
        record, name = deploy(files.model, order, undeploy_image=files.undeploy_image)
    files.output_endpoint.parent.mkdir(parents=True, exist_ok=True)
    files.output_endpoint.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    endpoint = OutputArtifact(uri=artifact_uri(files.output_endpoint), metadata={"resourceName": name} if name else {})
    write_outputs(files.executor_output, artifacts={"endpoint": endpoint}, parameters={files.output_endpoint_resource_name: name})


if __name__ == "__main__":
    run_step("deploy-model", main)
