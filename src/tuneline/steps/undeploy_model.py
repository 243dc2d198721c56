"""Take a deployed model off its endpoint on Vertex AI when its time is over. The time is a label of the endpoint; without it the model stays."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tuneline.errors import ParameterError
from tuneline.interface import parse
from tuneline.steps import run_step, write_outputs
from tuneline.vertex.rest import Vertex
from tuneline.vertex.undeploying import undeploy_when_due

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be taken off, and the outputs."""

    endpoint_resource_name: str
    deployed_model_id: str
    output_undeployed: Path
    executor_output: Path


FLAGS = (Order,)


def main(argv: Sequence[str]) -> None:
    (order,) = parse(argv, *FLAGS)
    parts = order.endpoint_resource_name.split("/")
    if len(parts) != 6 or parts[0::2] != ["projects", "locations", "endpoints"]:
        raise ParameterError(f"endpoint_resource_name: found {order.endpoint_resource_name!r}; expected projects/P/locations/L/endpoints/E.")
    is_gone = undeploy_when_due(Vertex(region=parts[3]), order.endpoint_resource_name, order.deployed_model_id, datetime.now(UTC))
    LOG.info("undeployed=%s endpoint=%s id=%s", is_gone, order.endpoint_resource_name, order.deployed_model_id)
    write_outputs(order.executor_output, artifacts={}, parameters={order.output_undeployed: "true" if is_gone else "false"})


if __name__ == "__main__":
    run_step("undeploy-model", main)
