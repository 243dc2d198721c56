"""Requests that nobody sends by mistake: each is refused or answered, and none is an error of the service."""

import base64
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.one_of_everything import PLACE, RUN, SCHEDULE, Everything, everything
from tuneline.api.strict_json import MAX_DEPTH

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text(encoding="utf-8"))
POSTED = {
    operation["operationId"]: (path, method)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
    if "requestBody" in operation and path.startswith("/v1/")
}
JOBS, SCHEDULES = f"/v1/{PLACE}/pipelineJobs", f"/v1/{PLACE}/schedules"
EXPERIMENTS = f"/v1/{PLACE}/tensorboards/T/experiments"
DEEP = '{"a":' * 150 + "1" + "}" * 150
ODD = [
    *("null", "true", "[]", "{}", '""', "-1", "1.5", "1e308", "1e309", "NaN", "Infinity", "9" * 30, "9" * 400, "9223372036854775808", DEEP, "[" * 500),
    *('"\\u0000"', '"a\\u0000b"', '"\\ud800"', '"\\ud83d\\ude00"', '"a\\nb"', '{"\\u0000":"x"}', '{"a":null}', "[null]", "[[]]", "[{}]", '{"a":1,"a":2}'),
    *(f'"{text}"' for text in ("x" * 5000, "9" * 30, "1.0", "nan", "inf", "-inf", "²", "@", "m@", "m@99999999999999999999", "../../x", "/etc/passwd")),
    *(
        f'"{text}"'
        for text in ("gs://", "gs://b", "gs://../x", "gs://.tuneline/x", "hf://x/y", "file:///x", "/dev/zero", "/proc/self/environ", "embedded:../x")
    ),
    *(f'"{text}"' for text in ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59", "2026-01-01", "TZ=../../x * * * * *", "0 0 30 2 *", "R R * * *")),
    *('{"seconds":1e30}', '{"seconds":null}', '{"seconds":"x"}', '{"0":-1}', '{"0":1e300}'),
]
"""Values, as they stand in a body."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everything]:
    with everything(tmp_path_factory.mktemp("home")) as made:
        yield made


class Odd(str):
    """Text that stands in a body as it is."""


def written(value: Any) -> str:
    """JSON, with odd text as it is."""
    match value:
        case Odd():
            return str(value)
        case dict():
            return "{" + ",".join(f"{json.dumps(key)}:{written(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a value can be replaced: everywhere in it."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    key, *rest = path
    inner = replaced(value[key], tuple(rest), by)
    return {**value, key: inner} if isinstance(value, dict) else [*value[:key], inner, *value[key + 1 :]]


def refusal(answer: Any) -> str:
    """The message of an answer that may refuse, and is no error of ours."""
    assert answer.status_code < 500, answer.text
    if answer.status_code < 400:
        return ""
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    assert not re.search(r"Traceback|File \"|\.py\b", error["message"])
    return str(error["message"])


@pytest.mark.parametrize("operation_id", POSTED)
def test_a_body_with_an_odd_value_is_no_error_of_ours(made: Everything, operation_id: str) -> None:
    path, method = POSTED[operation_id]
    address = re.sub(r"{(\w+)}", lambda found: made.names(operation_id)[found[1]], path)
    body = made.body(operation_id)
    chooses = random.Random(operation_id)
    changes = [(place, odd) for place in places(body) for odd in chooses.sample(ODD, 3)]
    for place, odd in changes:
        content = written(replaced(body, place, Odd(odd)))
        refusal(made.bench.client.request(method, address, content=content, params=made.query(operation_id), headers={"content-type": "application/json"}))
    assert len(changes) >= 6


def token(*values: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode()


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"filter": " AND ".join(["displayName=X"] * 101)}, "has more than 100 comparisons"),
        ({"filter": "displayName=X " * 2000}, "has more than 100 comparisons"),
        ({"filter": "NOT " * 5000 + "displayName=X"}, "unknown field 'NOT'"),
        ({"orderBy": ",".join(f"labels.a{number}" for number in range(101))}, "order_by: found 101 fields; expected at most 100."),
        ({"orderBy": ",".join(["displayName"] * 3000)}, ""),
        ({"filter": "displayName=\0"}, ""),
        ({"pageToken": token(2**63, "", "")}, "page_token: not one that this list gave"),
        ({"pageToken": token("1", "", "")}, "page_token: not one that this list gave"),
        ({"pageToken": "é"}, "page_token: not one that this list gave"),
        ({"page_size": "9" * 5000}, "page_size: found"),
        ({"pageSize": "9" * 5000}, "pageSize: "),
        ({"page_size": "²"}, "page_size: found"),
        ({"pageSize": ["x", "1"]}, ""),
    ],
)
def test_lists_refuse_what_they_cannot_do(made: Everything, query: dict[str, Any], told: str) -> None:
    for collection in ("pipelineJobs", "endpoints"):
        message = refusal(made.bench.client.get(f"/v1/{PLACE}/{collection}", params=query))
        assert message.startswith(told) or told in message
        assert bool(message) is bool(told)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 1000])
def test_a_deep_body_is_refused(made: Everything, depth: int) -> None:
    deep = '{"a":' * depth + "1" + "}" * depth
    for path, body in ((JOBS, f'{{"pipelineSpec":{deep}}}'), ("/v1/chat/completions", f'{{"model":"served","stop":{deep}}}')):
        answer = made.bench.client.post(path, content=body, headers={"content-type": "application/json"})
        assert refusal(answer).startswith("body: ")


def test_a_body_as_deep_as_may_be_comes_back(made: Everything) -> None:
    metadata: dict[str, Any] = {}
    for _ in range(MAX_DEPTH - 2):
        metadata = {"a": metadata}
    series = f"/v1/{made.given_name(RUN)}/timeSeries"
    answer = made.bench.client.post(series, json={"valueType": "SCALAR", "metadata": metadata})
    assert answer.status_code == 200, answer.text
    assert made.bench.get(answer.json()["name"])["metadata"] == metadata


def test_problems_beyond_a_hundred_are_counted(made: Everything) -> None:
    answer = made.bench.client.post(JOBS, json={"labels": {str(number): number for number in range(250)}})
    assert refusal(answer).splitlines()[100:] == ["And 150 more."]


@pytest.mark.parametrize("name", ["%00", "a%0Ab", "a%1Fb", "%7F", "%2E%2E", "x" * 513])
def test_names_in_the_address_are_printable(made: Everything, name: str) -> None:
    for path in (f"/v1/projects/{name}/locations/l/pipelineJobs", f"{JOBS}/{name}", f"{EXPERIMENTS}/{name}", f"/ui/projects/p/locations/{name}/operations/1"):
        answer = made.bench.client.get(path)
        assert "in the address; expected up to 512 characters" in refusal(answer)
        assert answer.status_code == 400


@pytest.mark.parametrize("own_id", ["a\0b", "a\nb", "..", ".", "a/b", "a:write", "x" * 129])
def test_ids_that_no_address_can_hold_are_refused(made: Everything, own_id: str) -> None:
    experiments = f"/v1/{made.given_name(RUN).partition('/experiments/')[0]}/experiments"
    assert refusal(made.bench.client.post(experiments, json={}, params={"tensorboardExperimentId": own_id})).startswith("id: found")


def test_an_id_with_a_question_mark_is_found_again(made: Everything) -> None:
    """Its address is not cut there: what is deleted is what was meant."""
    experiments = f"/v1/{made.given_name(RUN).partition('/experiments/')[0]}/experiments"
    for own_id in ("q", "q?a", "q#a"):
        assert made.bench.client.post(experiments, json={}, params={"tensorboardExperimentId": own_id}).status_code == 200
    assert made.bench.client.delete(f"{experiments}/q%3Fa").status_code == 200
    assert [made.bench.client.get(f"{experiments}/{own_id}").status_code for own_id in ("q", "q%3Fa", "q%23a")] == [200, 404, 200]


@pytest.mark.parametrize(
    "change",
    [
        {"startTime": "9999-12-31T23:59:59Z", "endTime": None},
        {"startTime": "9999-12-31T23:00:00Z", "endTime": None, "cron": "0 3 1 1 *"},
        {"startTime": "0001-01-01T00:00:00Z"},
        {"endTime": "9999-12-31T23:59:59-23:59"},
        {"startTime": "0001-01-01T00:00:00+23:59"},
        {"cron": "R R * * *"},
        {"cron": "H(0-5) * * * *"},
        {"maxRunCount": str(2**63)},
    ],
)
def test_a_schedule_that_never_comes_is_refused(made: Everything, change: dict[str, Any]) -> None:
    body = {key: value for key, value in {**made.filled(SCHEDULE), **change}.items() if value is not None}
    assert re.match(r"cron|startTime|endTime|maxRunCount", refusal(made.bench.client.post(SCHEDULES, json=body)))


@pytest.mark.parametrize(
    "wall_time", [1e30, -1e30, 99999999999999999, {"seconds": 1e19}, {"seconds": None}, {"nanos": {}}, {"seconds": []}, "0001-01-01T00:00:00+10:00", "nan"]
)
def test_a_point_of_no_time_is_refused_and_does_not_spoil_its_series(made: Everything, wall_time: object) -> None:
    run = made.given_name(RUN)
    points = {"tensorboardTimeSeriesId": "s", "values": [{"step": 9, "wallTime": wall_time, "scalar": {"value": 1}}]}
    assert refusal(made.bench.client.post(f"/v1/{run}:write", json={"timeSeriesData": [points]})).startswith("wallTime: found")
    assert made.bench.client.get(f"/v1/{run}/timeSeries/s:read").status_code == 200


def test_values_without_a_number_are_written_as_proto_does(made: Everything) -> None:
    run = made.given_name(RUN)
    series = made.bench.client.post(f"/v1/{run}/timeSeries", json={"valueType": "SCALAR"}).json()["name"]
    points = [{"step": step, "scalar": {"value": value}} for step, value in enumerate(("NaN", "Infinity", "-Infinity"))]
    data = {"timeSeriesData": [{"tensorboardTimeSeriesId": series.rpartition("/")[2], "values": points}]}
    assert made.bench.client.post(f"/v1/{run}:write", json=data).json() == {}
    read = made.bench.get(f"{series}:read")["timeSeriesData"]["values"]
    assert [point["scalar"]["value"] for point in read] == ["NaN", "Infinity", "-Infinity"]


@pytest.mark.parametrize(
    ("field", "value"), [("maxOutputTokens", "9" * 30), ("seed", 2**63), ("candidateCount", "-3000000000"), ("topK", "inf"), ("topK", 1e300), ("topP", "nan")]
)
def test_a_number_that_no_server_reads_is_refused(made: Everything, field: str, value: object) -> None:
    body = made.body("v1_generate_content_endpoint")
    body["generationConfig"][field] = value
    for verb in ("generateContent", "streamGenerateContent"):
        assert refusal(made.bench.client.post(f"/v1/{PLACE}/endpoints/e:{verb}", json=body)).startswith(f"generationConfig.{field}: ")


def test_a_time_series_belongs_to_a_run(made: Everything) -> None:
    run = made.given_name(RUN)
    experiment = run.partition("/runs/")[0]
    for stranger in (experiment, f"{run}/timeSeries/s", f"{experiment}2/runs/r"):
        requests = [{"parent": stranger, "tensorboardTimeSeries": {"valueType": "SCALAR"}}]
        assert "expected a run of" in refusal(made.bench.client.post(f"/v1/{experiment}:batchCreate", json={"requests": requests}))
        data = {"writeRunDataRequests": [{"tensorboardRun": stranger, "timeSeriesData": []}]}
        assert "expected a run of" in refusal(made.bench.client.post(f"/v1/{experiment}:write", json=data))


def test_only_the_tensorboards_own_series_are_read_at_once(made: Everything) -> None:
    board = made.given_name(RUN).partition("/experiments/")[0]
    for stranger in (f"{PLACE}/pipelineJobs/job", f"{board}/experiments/x", "", f"{board}0/experiments/x/runs/r/timeSeries/s"):
        assert "expected a time series of" in refusal(made.bench.client.get(f"/v1/{board}:batchRead", params={"timeSeries": stranger}))


def test_a_pipeline_comes_back_with_all_its_characters(made: Everything) -> None:
    """It was never YAML, whose reader takes the two halves of a character for two."""
    spec = made.bench.get(f"{PLACE}/pipelineJobs/job")["pipelineSpec"]
    spec["pipelineInfo"]["description"] = "\U0001f600"
    body = {key: value for key, value in made.body("v1_create_pipeline_job").items() if key != "templateUri"}
    job = made.bench.client.post(JOBS, json={**body, "pipelineSpec": spec}).json()
    assert made.bench.get(job["name"])["pipelineSpec"]["pipelineInfo"]["description"] == "\U0001f600"


def test_a_catalogue_that_may_never_end_is_not_read(made: Everything) -> None:
    body = made.body("v1_create_pipeline_job")
    body["runtimeConfig"]["parameterValues"]["catalog_uri"] = "/dev/zero"
    assert refusal(made.bench.client.post(JOBS, json=body)) == "catalog_uri: /dev/zero is no file; expected a TOML file."


def test_operations_of_nested_resources_can_be_asked_for(made: Everything) -> None:
    experiments = f"/v1/{made.given_name(RUN).partition('/experiments/')[0]}/experiments"
    made.bench.client.post(experiments, json={}, params={"tensorboardExperimentId": "short-lived"})
    operation = made.bench.client.delete(f"{experiments}/short-lived").json()
    assert made.bench.get(operation["name"]) == operation


@pytest.mark.parametrize("path", ["/health/", f"{JOBS}/", "//v1/models"])
def test_nobody_is_sent_elsewhere(made: Everything, path: str) -> None:
    assert made.bench.client.get(path, follow_redirects=False).status_code == 404
