"""`tensorboards` with experiments, runs and time series: the scalars of tuning jobs, and of everybody who writes some.

tensorboards/T/experiments/E/runs/R/timeSeries/S
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Request

from tuneline.api import operations, scalars
from tuneline.api.faults import Fault, invalid
from tuneline.api.paging import Listing, page
from tuneline.api.service import Service
from tuneline.api.store import Body, Query
from tuneline.api.strict_json import StrictRoute
from tuneline.api.wire import Labels, Message, Struct, proto_enum
from tuneline.local.run_record import now
from tuneline.registry import resource_id

ValueType = Annotated[str, proto_enum(VALUE_TYPE_UNSPECIFIED=0, SCALAR=1, TENSOR=2, BLOB_SEQUENCE=3)]
FIELDS = ("name", "displayName", "createTime", "updateTime", "labels", "source", "pluginName")


class Resource(Message):
    """A tensorboard, experiment, run or time series as a client sends it."""

    name: str = ""
    display_name: str = ""
    description: str = ""
    labels: Labels = {}
    source: str = ""
    is_default: bool = False
    encryption_spec: Struct = {}
    value_type: ValueType = "VALUE_TYPE_UNSPECIFIED"
    plugin_name: str = ""
    plugin_data: str = ""
    metadata: Struct = {}
    etag: str = ""
    create_time: str = ""
    update_time: str = ""


class Creation(Message):
    """One element of a `:batchCreate`."""

    parent: str = ""
    tensorboard_run: Resource | None = None
    tensorboard_run_id: str = ""
    tensorboard_time_series: Resource | None = None


class Creations(Message):
    """The body of `:batchCreate`."""

    requests: list[Creation]


class Scalar(Message):
    """The value of a point."""

    value: float


class Point(Message):
    """One value of a time series."""

    wall_time: str | float | Struct = ""
    step: int = 0
    scalar: Scalar


class Series(Message):
    """New points of one time series."""

    tensorboard_time_series_id: str
    value_type: ValueType = "SCALAR"
    values: list[Point]


class RunData(Message):
    """The body of a run's `:write`."""

    tensorboard_run: str = ""
    time_series_data: list[Series]


class ExperimentData(Message):
    """The body of an experiment's `:write`."""

    write_run_data_requests: list[RunData]


@dataclass(frozen=True)
class Level:
    """One of the four kinds of resources."""

    collection: str
    list_key: str
    id_parameter: str
    path: str


LEVELS = (
    Level("tensorboards", "tensorboards", "", "/tensorboards"),
    Level("experiments", "tensorboardExperiments", "tensorboardExperimentId", "/tensorboards/{tensorboard}/experiments"),
    Level("runs", "tensorboardRuns", "tensorboardRunId", "/tensorboards/{tensorboard}/experiments/{experiment}/runs"),
    Level("timeSeries", "tensorboardTimeSeries", "tensorboardTimeSeriesId", "/tensorboards/{tensorboard}/experiments/{experiment}/runs/{run}/timeSeries"),
)


def create_router(service: Service, version: str) -> APIRouter:
    """The routes."""
    router = APIRouter(route_class=StrictRoute, prefix="/projects/{project}/locations/{location}", tags=["tensorboards"])
    _add_data_routes(router, service, version)
    for level in LEVELS:
        _add_routes(router, service, version, level)
    return router


def _add_routes(router: APIRouter, service: Service, version: str, level: Level) -> None:
    one = f"{level.path}/{{own_id}}"

    @router.post(level.path, operation_id=f"{version}_create_{level.list_key}")
    def create(request: Request, given: Resource) -> Body:
        name = _name(request)
        own_id = request.query_params.get(level.id_parameter, "") if level.id_parameter else ""
        body = create_resource(service, name.rpartition("/")[0], level.collection, given, own_id)
        if level.collection != "tensorboards":
            return body
        return operations.answer(operations.done(service.store, version, body["name"], "Tensorboard", body, "CreateTensorboardOperationMetadata"))

    @router.get(level.path, operation_id=f"{version}_list_{level.list_key}")
    def list_resources(request: Request, listing: Listing) -> Body:
        parent = _name(request).rpartition("/")[0]
        return page(service.store, level.collection, parent, listing, fields=FIELDS, key=level.list_key)

    @router.get(one, operation_id=f"{version}_get_{level.list_key}")
    def get(request: Request) -> Body:
        return service.store.get(_name(request))

    @router.patch(one, operation_id=f"{version}_update_{level.list_key}")
    def update(request: Request, given: Resource, updateMask: str = "") -> Body:  # noqa: N803
        values = given.to_json()
        changes: Body = {key: values[key] for key in ("displayName", "description", "labels") if key in values and (not updateMask or key in updateMask)}
        body = service.store.update(_name(request), lambda found: {**found, **changes})
        return operations.answer(operations.done(service.store, version, body["name"], "Tensorboard", body)) if level.collection == "tensorboards" else body

    @router.delete(one, operation_id=f"{version}_delete_{level.list_key}")
    def delete(request: Request) -> Body:
        name = _name(request)
        delete_resource(service, name)
        return operations.answer(operations.done(service.store, version, name, "google.protobuf.Empty", {}, "DeleteOperationMetadata"))


def _add_data_routes(router: APIRouter, service: Service, version: str) -> None:
    experiment = "/tensorboards/{tensorboard}/experiments/{experiment}"

    @router.post(f"{experiment}/runs/{{run}}:write", operation_id=f"{version}_write_tensorboard_run")
    def write_run(request: Request, data: RunData) -> Body:
        _write(service, _name(request).removesuffix(":write"), data.time_series_data)
        return {}

    @router.post(f"{experiment}:write", operation_id=f"{version}_write_tensorboard_experiment")
    def write_experiment(request: Request, data: ExperimentData) -> Body:
        name = _name(request).removesuffix(":write")
        for number, run in enumerate(data.write_run_data_requests):
            if not run.tensorboard_run.startswith(f"{name}/runs/"):
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
        strangers = [item.parent for item in creations.requests if not item.parent.startswith(f"{parent}/runs/")]
        if strangers:
            raise invalid(*(f"parent: found {name!r}; expected a run of {parent}." for name in strangers))
        made = [create_resource(service, item.parent, "timeSeries", item.tensorboard_time_series or Resource()) for item in creations.requests]
        return {"tensorboardTimeSeries": made}

    @router.get(f"{experiment}/runs/{{run}}/timeSeries/{{series}}:read", operation_id=f"{version}_read_tensorboard_time_series")
    def read(request: Request, maxDataPoints: int = 1000) -> Body:  # noqa: N803
        return {"timeSeriesData": _data(service, service.store.get(_name(request).removesuffix(":read")), maxDataPoints)}

    @router.get("/tensorboards/{tensorboard}:batchRead", operation_id=f"{version}_batch_read_tensorboard_time_series")
    def read_many(request: Request) -> Body:
        names = [*request.query_params.getlist("timeSeries"), *request.query_params.getlist("time_series")]
        return {"timeSeriesData": [_data(service, service.store.get(name), 1000) for name in names]}


def create_resource(service: Service, parent: str, collection: str, resource: Resource, given_id: str = "") -> Body:
    """Keep a new resource under its parent, which must exist."""
    if collection != "tensorboards":
        service.store.get(parent)
    moment = now()
    own_id = given_id or resource_id(parent, collection, resource.display_name, moment, str(id(resource)))
    if "/" in own_id or len(own_id) > 128:
        raise invalid(f"id: found {own_id!r}; expected up to 128 characters without '/'.")
    body = {key: value for key, value in resource.to_json().items() if key not in ("name", "createTime", "updateTime", "etag")}
    if collection == "timeSeries" and body.get("valueType") != "SCALAR":
        raise Fault("UNIMPLEMENTED", f"valueType: found {body.get('valueType')}; only scalars are kept here.")
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
    values = [{"step": str(step), "wallTime": scalars.moment(at), "scalar": {"value": "NaN" if math.isnan(value) else value}} for step, at, value in points]
    return {"tensorboardTimeSeriesId": series["name"].rpartition("/")[2], "valueType": series["valueType"], "values": values}


def _seconds(wall_time: object) -> float:
    try:
        return scalars.seconds(wall_time)
    except ValueError:
        raise invalid(f"wallTime: found {wall_time!r}; expected a time such as 2026-11-24T03:00:00Z.") from None


def _name(request: Request) -> str:
    """The resource name in the address."""
    return request.url.path.split("/", 2)[2]
