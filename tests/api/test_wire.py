"""proto3's JSON rules, and what a wrong body is told."""

from typing import Annotated

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import PARENT
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


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": {"b": 1}\n "c": 2}', "line 2, column 2: unexpected character, expected ',' or '}', between '{\"a\": {\"b\": 1}' and '\"c\": 2}'"),
        ('{"a": "b', 'line 1, column 9: unexpected end of data, between \'{"a": "b\' and the end'),
        ("x", "line 1, column 1: unexpected character, expected a JSON value, between the start and 'x'"),
    ],
)
def test_a_body_that_is_no_json_is_refused_with_the_place(client: TestClient, text: str, told: str) -> None:
    answer = client.post(f"{PARENT}/tuningJobs", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == f"body: not JSON ({told})."


def test_all_problems_come_at_once() -> None:
    with pytest.raises(Fault) as caught:
        parse(Request, {"hyperParameters": {"learningRate": "fast"}, "mode": 1})
    assert len(str(caught.value).splitlines()) == 3
