"""proto3's JSON rules, and what a wrong body is told."""

from typing import Annotated

import pytest

from tuneline.api.faults import Fault
from tuneline.api.wire import Message, parse, proto_enum

Mode = Annotated[str, proto_enum(TUNING_MODE_UNSPECIFIED=0, TUNING_MODE_FULL=1)]


class Parameters(Message):
    epoch_count: int | None = None
    learning_rate: float | None = None


class Request(Message):
    base_model: str
    hyper_parameters: Parameters = Parameters()
    tuning_mode: Mode = "TUNING_MODE_UNSPECIFIED"


@pytest.mark.parametrize(
    "body",
    [
        {"baseModel": "m", "hyperParameters": {"epochCount": "3"}, "tuningMode": 1},
        {"base_model": "m", "hyper_parameters": {"epoch_count": 3}, "tuning_mode": "TUNING_MODE_FULL"},
        {"baseModel": "m", "hyper_parameters": {"epochCount": 3.0}, "tuningMode": 1.0},
    ],
)
def test_all_spellings_mean_the_same(body: dict[str, object]) -> None:
    message = parse(Request, body)
    assert message.hyper_parameters.epoch_count == 3
    assert message.to_json() == {"baseModel": "m", "hyperParameters": {"epochCount": 3}, "tuningMode": "TUNING_MODE_FULL"}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"baseModel": "m", "hyperParameters": {"epochCont": 3}}, "unknown field 'hyperParameters.epochCont'. Did you mean 'epochCount'?"),
        ({}, "baseModel is missing."),
        ({"baseModel": "m", "tuningMode": "FULL"}, "expected one of TUNING_MODE_UNSPECIFIED, TUNING_MODE_FULL"),
        ({"baseModel": "m", "tuningMode": 7}, "tuningMode: expected one of"),
        ({"baseModel": "m", "tuningMode": True}, "tuningMode: expected one of"),
        ({"baseModel": "m", "hyperParameters": {"epochCount": "3.5"}}, "hyperParameters.epochCount: "),
        ([], "expected a JSON object"),
    ],
)
def test_a_wrong_body_is_refused_by_place(body: object, told: str) -> None:
    with pytest.raises(Fault) as caught:
        parse(Request, body)
    assert told in str(caught.value)
    assert caught.value.http_status == 400


def test_all_problems_come_at_once() -> None:
    with pytest.raises(Fault) as caught:
        parse(Request, {"hyperParameters": {"learningRate": "fast"}, "mode": 1})
    assert len(str(caught.value).splitlines()) == 3
