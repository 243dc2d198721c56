"""Messages of `tensorboards`."""

from typing import Annotated

from tuneline.api.wire import Int64, Labels, Message, Struct, proto_enum

ValueType = Annotated[str, proto_enum(VALUE_TYPE_UNSPECIFIED=0, SCALAR=1, TENSOR=2, BLOB_SEQUENCE=3)]


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
    step: Int64 = 0
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
