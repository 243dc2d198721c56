"""`tensorboards` with experiments, runs and time series: the scalars of tuning jobs, and of everybody who writes some.

tensorboards/T/experiments/E/runs/R/timeSeries/S
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi import Query as Parameter
from pydantic.alias_generators import to_snake

from tuneline.api import operations, scalars
from tuneline.api.answers import OPERATION, lists, shows
from tuneline.api.faults import invalid
from tuneline.api.paging import Listing, page
from tuneline.api.path_names import is_name
from tuneline.api.resources.tensorboard_messages import Creations, ExperimentData, Resource, RunData, Series
from tuneline.api.resources.update_masks import changes
from tuneline.api.service import Service
from tuneline.api.store import Body, Query
from tuneline.api.strict_json import StrictRoute
from tuneline.local.run_record import now
from tuneline.registry import resource_id

MAX_ID = 128
MAX_POINTS = 1000
"""Of one series in an answer, unless more are asked for."""
CHANGEABLE = ("displayName", "description", "labels")
FIELDS = ("name", "displayName", "createTime", "updateTime", "labels", "source", "pluginName")


@dataclass(frozen=True)
class Level:
    """One of the four kinds of resources."""

    part: str
    """What one of them is called in an address."""
    collection: str
    kind: str
    """Name of the message, in camelCase."""
    list_key: str
    path: str

    @property
    def has_own_id(self) -> bool:
        """Whether a client may choose it."""
        return self.part != "tensorboard"


_EXPERIMENTS = "/tensorboards/{tensorboard}/experiments"
_RUNS = f"{_EXPERIMENTS}/{{experiment}}/runs"
LEVELS = (
    Level("tensorboard", "tensorboards", "tensorboard", "tensorboards", "/tensorboards"),
    Level("experiment", "experiments", "tensorboardExperiment", "tensorboardExperiments", _EXPERIMENTS),
    Level("run", "runs", "tensorboardRun", "tensorboardRuns", _RUNS),
    Level("series", "timeSeries", "tensorboardTimeSeries", "tensorboardTimeSeries", f"{_RUNS}/{{run}}/timeSeries"),
)


def create_router(service: Service, version: str) -> APIRouter:
    """The routes."""
    router = APIRouter(route_class=StrictRoute, prefix="/projects/{project}/locations/{location}", tags=["tensorboards"])
    _add_data_routes(router, service, version)
    for level in LEVELS:
        _add_routes(router, service, version, level)
    return router


def _add_routes(router: APIRouter, service: Service, version: str, level: Level) -> None:
    address, noun = f"{level.path}/{{{level.part}}}", to_snake(level.kind)
    answers = shows(Resource) if level.has_own_id else OPERATION
    OwnId = Annotated[str, Parameter(alias=f"{level.kind}Id", include_in_schema=level.has_own_id)]  # noqa: N806 (a type)

    @router.post(level.path, operation_id=f"{version}_create_{noun}", responses=answers)
    def create(request: Request, given: Resource, own_id: OwnId = "") -> Body:
        parent = _name(request).rpartition("/")[0]
        body = create_resource(service, parent, level.collection, given, own_id if level.has_own_id else "")
        if level.has_own_id:
            return body
        return operations.answer(operations.done(service.store, version, body["name"], "Tensorboard", body, "CreateTensorboardOperationMetadata"))

    @router.get(level.path, operation_id=f"{version}_list_{to_snake(level.list_key)}", responses=lists(Resource, level.list_key))
    def list_resources(request: Request, listing: Listing) -> Body:
        parent = _name(request).rpartition("/")[0]
        return page(service.store, level.collection, parent, listing, fields=FIELDS, key=level.list_key)

    @router.get(address, operation_id=f"{version}_get_{noun}", responses=shows(Resource))
    def get(request: Request) -> Body:
        return service.store.get(_name(request))

    @router.patch(address, operation_id=f"{version}_update_{noun}", responses=answers)
    def update(request: Request, given: Resource, updateMask: str = "", update_mask: str = "") -> Body:  # noqa: N803
        values = changes(updateMask or update_mask, given, CHANGEABLE)
        body = service.store.update(_name(request), lambda found: {**found, **values})
        return body if level.has_own_id else operations.answer(operations.done(service.store, version, body["name"], "Tensorboard", body))

    @router.delete(address, operation_id=f"{version}_delete_{noun}", responses=OPERATION)
    def delete(request: Request) -> Body:
        name = _name(request)
        delete_resource(service, name)
        return operations.answer(operations.done(service.store, version, name, "google.protobuf.Empty", {}, "DeleteOperationMetadata"))


def _add_data_routes(router: APIRouter, service: Service, version: str) -> None:
    experiment = f"{_EXPERIMENTS}/{{experiment}}"

    @router.post(f"{experiment}/runs/{{run}}:write", operation_id=f"{version}_write_tensorboard_run")
    def write_run(request: Request, data: RunData) -> Body:
        _write(service, _name(request).removesuffix(":write"), data.time_series_data)
        return {}

    @router.post(f"{experiment}:write", operation_id=f"{version}_write_tensorboard_experiment")
    def write_experiment(request: Request, data: ExperimentData) -> Body:
        name = _name(request).removesuffix(":write")
        for number, run in enumerate(data.write_run_data_requests):
            if not _is_below(name, run.tensorboard_run, "runs"):
                raise invalid(f"writeRunDataRequests[{number}].tensorboardRun: found {run.tensorboard_run!r}; expected a run of {name}.")
            _write(service, run.tensorboard_run, run.time_series_data)
        return {}

    @router.post(f"{experiment}/runs:batchCreate", operation_id=f"{version}_batch_create_tensorboard_runs")
    def create_runs(request: Request, creations: Creations) -> Body:
        parent = _name(request).removesuffix("/runs:batchCreate")
        made = [create_resource(service, parent, "runs", item.tensorboard_run or Resource(), item.tensorboard_run_id) for item in creations.requests]
        return {"tensorboardRuns": made}

    @router.post(f"{experiment}:batchCreate", operation_id=f"{version}_batch_create_tensorboard_time_series")
    def create_series(request: Request, creations: Creations) -> Body:
        parent = _name(request).removesuffix(":batchCreate")
        strangers = [item.parent for item in creations.requests if not _is_below(parent, item.parent, "runs")]
        if strangers:
            raise invalid(*(f"parent: found {name!r}; expected a run of {parent}." for name in strangers))
        made = [create_resource(service, item.parent, "timeSeries", item.tensorboard_time_series or Resource()) for item in creations.requests]
        return {"tensorboardTimeSeries": made}

    @router.get(f"{experiment}/runs/{{run}}/timeSeries/{{series}}:read", operation_id=f"{version}_read_tensorboard_time_series")
    def read(request: Request, maxDataPoints: Annotated[int, Parameter(ge=0)] = 0) -> Body:  # noqa: N803
        return {"timeSeriesData": _data(service, service.store.get(_name(request).removesuffix(":read")), maxDataPoints or MAX_POINTS)}

    @router.get("/tensorboards/{tensorboard}:batchRead", operation_id=f"{version}_batch_read_tensorboard_time_series")
    def read_many(request: Request, timeSeries: Annotated[list[str], Parameter()] = [], time_series: Annotated[list[str], Parameter()] = []) -> Body:  # noqa: B006, N803
        tensorboard, names = _name(request).removesuffix(":batchRead"), (*timeSeries, *time_series)
        strangers = [name for name in names if not _is_below(tensorboard, name, "experiments", "runs", "timeSeries")]
        if strangers:
            raise invalid(*(f"timeSeries: found {name!r}; expected a time series of {tensorboard}." for name in strangers))
        return {"timeSeriesData": [_data(service, service.store.get(name), MAX_POINTS) for name in names]}


def create_resource(service: Service, parent: str, collection: str, resource: Resource, given_id: str = "") -> Body:
    """Keep a new resource under its parent, which must exist."""
    if collection != "tensorboards":
        service.store.get(parent)
    moment = now()
    own_id = given_id or resource_id(parent, collection, resource.display_name, moment, str(id(resource)))
    if len(own_id) > MAX_ID or ":" in own_id or not is_name(own_id):
        raise invalid(f"id: found {own_id[:200]!r}; expected up to {MAX_ID} characters without '/' and ':', none of them a control character.")
    body = {key: value for key, value in resource.to_json().items() if key not in ("name", "createTime", "updateTime", "etag")}
    if collection == "timeSeries" and body.get("valueType") != "SCALAR":
        raise invalid(f"valueType: found {body.get('valueType')}; expected SCALAR. Only scalars are kept here.")
    return service.store.insert(collection, {**body, "name": f"{parent}/{collection}/{own_id}"})


def delete_resource(service: Service, name: str) -> None:
    """Forget a resource and everything below it."""
    with service.store.transaction():
        service.store.delete(name)
        collections = [level.collection for level in LEVELS]
        place = collections.index(name.split("/")[-2])
        if place + 1 < len(collections):
            for body in service.store.page(Query(kind=collections[place + 1], parent=name)):
                delete_resource(service, body["name"])
        else:
            scalars.forget(service.store, name)


def _write(service: Service, run: str, data: Iterable[Series]) -> None:
    for series in data:
        name = f"{run}/timeSeries/{series.tensorboard_time_series_id}"
        service.store.get(name)
        scalars.write(service.store, name, [(point.step, _seconds(point.wall_time), point.scalar.value) for point in series.values])


def _data(service: Service, series: Body, limit: int) -> Body:
    points = scalars.read(service.store, series["name"], limit)
    values = [{"step": str(step), "wallTime": scalars.moment(at), "scalar": {"value": _number(value)}} for step, at, value in points]
    return {"tensorboardTimeSeriesId": series["name"].rpartition("/")[2], "valueType": series["valueType"], "values": values}


def _number(value: float) -> float | str:
    """As proto3's JSON writes it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _seconds(wall_time: object) -> float:
    try:
        return scalars.seconds(wall_time)
    except ValueError:
        raise invalid(f"wallTime: found {wall_time!r}; expected a time such as 2026-11-24T03:00:00Z.") from None


def _is_below(parent: str, name: str, *collections: str) -> bool:
    """Whether the name is `parent/<collection>/<id>/<collection>/<id>...` with these collections."""
    parts = name.removeprefix(f"{parent}/").split("/")
    return name.startswith(f"{parent}/") and len(parts) == 2 * len(collections) and tuple(parts[::2]) == collections


def _name(request: Request) -> str:
    """The resource name in the address."""
    return str(request.scope["path"]).split("/", 2)[2]  # not request.url, which is escaped
