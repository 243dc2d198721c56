"""Write the record from which the engine starts the tuned model's endpoint; an empty one when deploy_model is false.

The server itself is no child of this task: it would end with it.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tuneline.errors import ParameterError
from tuneline.interface import parse
from tuneline.parameters import DeployModel
from tuneline.registry import models
from tuneline.registry.endpoints import deployment_of
from tuneline.resolution import Resolved
from tuneline.steps import OutputArtifact, artifact_uri, run_step, write_outputs


@dataclass(frozen=True, kw_only=True)
class Files:
    """Inputs and outputs."""

    pipeline_job_name: str
    """The registered model already knows it."""
    model_resource_name: str
    resolved: Path
    model: Path
    """Only its registered copy is served: a run's folder may be deleted."""
    output_endpoint: Path
    output_endpoint_resource_name: Path
    executor_output: Path


FLAGS = (DeployModel, Files)


def main(argv: Sequence[str]) -> None:
    parameters, files = parse(argv, DeployModel, Files)
    record, name = {}, ""
    is_kept_out = parameters.upload_model and not files.model_resource_name  # by the champion's gate
    if parameters.deploy_model and not is_kept_out:
        if Resolved.read(files.resolved).backend != "local":
            raise ParameterError("deploy_model: deploying to Vertex is not built yet.", next_action="Set deploy_model to false.")
        if not files.model_resource_name:
            raise ParameterError("deploy_model: only a registered model can be deployed.", next_action="Set upload_model to true, or deploy_model to false.")
        version = models.get(files.model_resource_name)
        version.verify()
        deployment = deployment_of(version)
        logging.info("to be deployed endpoint=%s model=%s", deployment.endpoint_resource_name, version.resource_name)
        record, name = asdict(deployment), deployment.endpoint_resource_name
    files.output_endpoint.parent.mkdir(parents=True, exist_ok=True)
    files.output_endpoint.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    endpoint = OutputArtifact(uri=artifact_uri(files.output_endpoint), metadata={"resourceName": name} if name else {})
    write_outputs(files.executor_output, artifacts={"endpoint": endpoint}, parameters={files.output_endpoint_resource_name: name})


if __name__ == "__main__":
    run_step("deploy-model", main)
