"""What stands in a project and region and costs by the hour: models on endpoints, and custom jobs that run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tuneline.catalog import Catalog
from tuneline.errors import TunelineError
from tuneline.vertex import expiry
from tuneline.vertex.rest import Json, Vertex
from tuneline.vertex.undeploying import take_off

RUNNING = 'state="JOB_STATE_RUNNING"'
SPOT = "SPOT"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Machines that somebody pays for."""

    kind: str
    """`endpoint` or `custom job`."""
    name: str
    """Resource name of the endpoint or job."""
    display_name: str
    machine_type: str
    """Empty where Vertex AI has chosen the machine."""
    num_machines: int
    is_spot: bool = False
    usd_per_hour: float | None = None
    """Of all machines together, at least; nothing when the price is not known."""
    model: str = ""
    deployed_model_id: str = ""
    traffic: int = 0
    """The model's share, in percent."""
    expires: datetime | None = None

    def has_expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires is not None and self.expires <= now

    def to_json(self) -> Json:
        """As people and programs see it."""
        return {
            "kind": self.kind,
            "name": self.name,
            "displayName": self.display_name,
            "machineType": self.machine_type,
            "machines": self.num_machines,
            "spot": self.is_spot,
            "usdPerHour": self.usd_per_hour,
            **({"model": self.model, "deployedModelId": self.deployed_model_id, "traffic": self.traffic} if self.kind == "endpoint" else {}),
            "undeployTime": self.expires.isoformat() if self.expires else "",
        }


def find_standing(vertex: Vertex, project: str, catalog: Catalog) -> list[Standing]:
    """Everything that stands in the region of `vertex`."""
    location = f"projects/{project}/locations/{vertex.region}"
    found = [standing for endpoint in vertex.list(f"{location}/endpoints") for standing in _on_endpoint(endpoint, vertex.region, catalog)]
    return found + [standing for job in vertex.list(f"{location}/customJobs", filter=RUNNING) for standing in _of_job(job, vertex.region, catalog)]


def undeploy_expired(vertex: Vertex, standing: list[Standing], now: datetime) -> tuple[list[Standing], list[TunelineError]]:
    """Take the models whose time is over off their endpoints; those that were taken off, and what kept others there."""
    gone, failures = [], []
    for each in standing:
        if each.has_expired(now):
            try:
                gone += [each] if take_off(vertex, each.name, each.deployed_model_id) else []
            except TunelineError as error:
                failures.append(error)
    return gone, failures


def _on_endpoint(endpoint: Mapping[str, Any], region: str, catalog: Catalog) -> Iterator[Standing]:
    for deployed in endpoint.get("deployedModels", []):
        resources = deployed.get("dedicatedResources") or deployed.get("automaticResources") or {}
        machine_type = str(resources.get("machineSpec", {}).get("machineType", ""))
        count = int(deployed.get("status", {}).get("availableReplicaCount") or resources.get("minReplicaCount", 1))
        is_spot = bool(resources.get("spot"))
        version = deployed.get("modelVersionId", "")
        yield Standing(
            kind="endpoint", name=str(endpoint["name"]), display_name=str(endpoint.get("displayName", "")), machine_type=machine_type, num_machines=count,
            is_spot=is_spot, usd_per_hour=_price(catalog, machine_type, region, count, is_spot=is_spot),
            model=f"{str(deployed.get('model', '')).partition('@')[0]}{f'@{version}' if version else ''}", deployed_model_id=str(deployed["id"]),
            traffic=int(endpoint.get("trafficSplit", {}).get(deployed["id"], 0)), expires=expiry.expires_at(endpoint.get("labels", {}), deployed["id"]),
        )  # fmt: skip


def _of_job(job: Mapping[str, Any], region: str, catalog: Catalog) -> Iterator[Standing]:
    spec = job.get("jobSpec", {})
    is_spot = spec.get("scheduling", {}).get("strategy") == SPOT
    for pool in spec.get("workerPoolSpecs", []):
        machine_type, count = str(pool.get("machineSpec", {}).get("machineType", "")), int(pool.get("replicaCount", 0))
        if count:
            yield Standing(
                kind="custom job", name=str(job["name"]), display_name=str(job.get("displayName", "")), machine_type=machine_type, num_machines=count,
                is_spot=is_spot, usd_per_hour=_price(catalog, machine_type, region, count, is_spot=is_spot),
            )  # fmt: skip


def _price(catalog: Catalog, machine_type: str, region: str, count: int, *, is_spot: bool) -> float | None:
    price = None if is_spot else catalog.usd_per_hour(machine_type, region)
    return None if price is None else price * count
