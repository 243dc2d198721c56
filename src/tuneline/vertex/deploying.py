"""deploy-model on Vertex AI: an endpoint, the tuned model on it, and the time at which it may be taken off again."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime

from tuneline.parameters import DeployModel as Parameters
from tuneline.resolution import Machine, Resolved
from tuneline.storage import join
from tuneline.vertex import endpoints
from tuneline.vertex.artifacts import Artifact
from tuneline.vertex.cloud import Cloud
from tuneline.vertex.endpoints import CreateEndpoint, Deployment, DeployModel
from tuneline.vertex.rest import Json
from tuneline.vertex.undeploying import CreateTimer, arm

LOG = logging.getLogger(__name__)
SETTLE_SECONDS = 900.0
"""A model shows once its server answers; when the answer to the call was lost, nothing tells of its operation."""


def deploy_on_vertex(
    cloud: Cloud, model: str, origin: Artifact, parameters: Parameters, resolved: Resolved, *, machine: Machine, labels: Mapping[str, str],
    undeploy_image: str,
) -> Json:  # fmt: skip
    """Deploy a registered version; the endpoint's record. Claims are kept beside the `origin` of its files.

    `undeploy_image` runs the task that takes the model off again, where the parameters give it a time.
    """
    vertex, region = cloud.vertex(resolved.upload_region), resolved.upload_region
    name = parameters.target_endpoint or endpoints.endpoint_name(parameters.project, region, parameters.model_display_name)
    if parameters.target_endpoint:
        endpoints.require(vertex, name)
    else:
        key = parameters.encryption_spec_key_name
        body = {
            "displayName": parameters.model_display_name,
            "dedicatedEndpointEnabled": parameters.dedicated_endpoint_enabled,
            "labels": dict(labels),
            **({"encryptionSpec": {"kmsKeyName": key}} if key else {}),
        }
        cloud.once(origin.claim(name.rpartition("/")[2]), CreateEndpoint(vertex=vertex, name=name, body=body))
    deployment = Deployment(
        model=model, display_name=parameters.model_display_name, endpoint=name, machine=machine, min_replica_count=parameters.min_replica_count,
        max_replica_count=parameters.max_replica_count, spot=parameters.serving_spot, traffic_percentage=parameters.traffic_percentage,
        service_account=resolved.job.service_account,
    )  # fmt: skip

    def limit() -> None:
        """See that the model will be taken off again."""
        timer = arm(vertex, name, deployment.deployed_model_id, parameters.undeploy_after_hours) if parameters.undeploy_after_hours else None
        if timer:
            account, root = resolved.job.service_account, join(origin.claims, "undeploy")
            body = timer.to_json(resolved.pipeline_region, root=root, image=undeploy_image, service_account=account, now=datetime.now(UTC))
            cloud.once(origin.claim(timer.claim), CreateTimer(vertex=cloud.vertex(resolved.pipeline_region), body=body))

    limit()  # before the deployment: a task that dies after it leaves nothing that costs for ever
    LOG.info("deploying model=%s endpoint=%s machine=%s", model, name, machine.machine_type)
    claim = origin.claim(f"{name.rpartition('/')[2]}-{deployment.deployed_model_id}")
    deployed = cloud.once(claim, DeployModel(vertex=vertex, deployment=deployment), settle_seconds=SETTLE_SECONDS)
    limit()  # deploying may have taken longer than the time that was given
    found = vertex.get(name)
    LOG.info("deployed model=%s endpoint=%s id=%s", model, name, deployed)
    return {
        "name": name,
        "displayName": str(found.get("displayName", "")),
        "model": model,
        "deployedModelId": deployed,
        "machineType": machine.machine_type,
        "acceleratorType": machine.accelerator_type,
        "acceleratorCount": machine.accelerator_count,
        "trafficSplit": found.get("trafficSplit", {}),
        "dedicatedEndpointDns": str(found.get("dedicatedEndpointDns", "")),
        "labels": found.get("labels", {}),
    }
