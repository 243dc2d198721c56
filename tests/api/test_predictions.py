"""Requests on their way to a model's server and back: raw, streamed, as Gemini's and OpenAI's clients ask."""

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.api.endpoint_bench import Bench, error, listening, model_folder, of_its_own, opened, start_fake_servers
from tuneline.api.resources.generate_content_messages import GenerateContentRequest, chat_request
from tuneline.api.resources.predictions import raw_route
from tuneline.api.resources.tensors import Tensor, tensor_of, value_of
from tuneline.api.wire import parse
from tuneline.data.base_model import EMBEDDED_MODELS
from tuneline.data.conversation import Turn
from tuneline.data.tokens import load_tokenizer
from tuneline.registry import endpoints as registry

TINY = EMBEDDED_MODELS / "tiny-code-001"
CHAT = {"messages": [{"role": "user", "content": "hello"}]}
GEMINI = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch, opened(tmp_path_factory.mktemp("home")) as bench:
        start_fake_servers(patch)
        yield of_its_own(bench)


@pytest.fixture(scope="module")
def model(bench: Bench) -> str:
    return bench.upload(TINY, "tiny", modelId="tiny-code")


@pytest.fixture(scope="module")
def endpoint(bench: Bench, model: str) -> str:
    endpoint = bench.new_endpoint("an endpoint")
    bench.deploy(endpoint, model, id="12")
    return endpoint


def post(bench: Bench, path: str, body: dict[str, Any], **query: str) -> Any:
    return bench.client.post(f"/v1/{path}", json=body, params=query)


def events(text: str) -> list[Any]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: {")]


def test_a_raw_answer_is_the_servers_own_and_names_its_model_in_headers(bench: Bench, endpoint: str, model: str) -> None:
    answer = post(bench, f"{endpoint}:rawPredict", {"instances": ["x"]})
    assert answer.json()["deployedModelId"] == "of the server"
    headers = {name: value for name, value in answer.headers.items() if name.startswith("x-vertex-ai")}
    name, _, number = model.partition("@")
    assert headers == {"x-vertex-ai-deployed-model-id": "12", "x-vertex-ai-model": name, "x-vertex-ai-model-version-id": number}


@pytest.mark.parametrize(
    ("body", "route"),
    [
        (b'{"instances": []}', "/predict"),
        (b'{"messages": [], "@requestFormat": "chatCompletions"}', "/predict"),
        (b'{"messages": []}', "/v1/chat/completions"),
        (b'{"prompt": "a"}', "/v1/completions"),
        (b"{", "/predict"),
        (b"[1]", "/predict"),
    ],
)
def test_a_raw_body_finds_the_servers_route(body: bytes, route: str) -> None:
    assert raw_route(body) == route


def test_a_stream_comes_as_the_server_sends_it(bench: Bench, endpoint: str) -> None:
    for path in (":streamRawPredict", "/invoke/v1/chat/completions", "/chat/completions"):
        answer = post(bench, f"{endpoint}{path}", {**CHAT, "stream": True})
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "".join(event["choices"][0]["delta"]["content"] for event in events(answer.text) if event["choices"]) == "one two"
        assert answer.text.rstrip().endswith("data: [DONE]")
    assert error(post(bench, f"{endpoint}/invoke/v1/models/../x", {}))[0] == 404


@pytest.mark.parametrize("path", [":predict", ":rawPredict", ":streamRawPredict", "/invoke/v1/completions", "/completions"])
def test_a_refusal_of_the_server_is_passed_on(bench: Bench, endpoint: str, path: str) -> None:
    assert error(post(bench, f"{endpoint}{path}", {"prompt": "x", "temperature": 3})) == (
        400, "INVALID_ARGUMENT", "temperature: found 3; expected a number from 0 to 2.",
    )  # fmt: skip


def test_generate_content_is_a_chat_with_the_model(bench: Bench, endpoint: str, model: str) -> None:
    body = {
        "contents": [{"parts": [{"text": "a"}, {"text": "b"}]}, {"role": "user", "parts": [{"text": "c"}]}, {"role": "model", "parts": [{"text": "d"}]},
                     {"role": "user", "parts": [{"text": "e"}]}],
        "system_instruction": {"parts": [{"text": "be brief"}]},
        "generationConfig": {"temperature": 0.5, "topP": 0.9, "topK": 3.0, "candidateCount": 2, "maxOutputTokens": "7", "stopSequences": ["x"], "seed": 1},
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
    }  # fmt: skip
    answer = post(bench, f"{endpoint}:generateContent", body).json()
    assert [candidate["content"]["parts"][0]["text"] for candidate in answer["candidates"]] == ["tiny", "tiny"]
    assert [(candidate["index"], candidate["finishReason"]) for candidate in answer["candidates"]] == [(0, "MAX_TOKENS"), (1, "MAX_TOKENS")]
    assert answer["usageMetadata"] == {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
    assert answer["modelVersion"] == model


def test_the_server_is_asked_what_generate_content_means() -> None:
    body = {
        "contents": [{"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}, {"role": "user", "parts": [{"text": "c"}]},
                     {"role": "model", "parts": [{"text": "d"}]}],
        "systemInstruction": {"role": "user", "parts": [{"text": "s"}]},
        "generation_config": {"max_output_tokens": 7, "top_k": 3.0, "stop_sequences": ["x"], "temperature": 0},
    }  # fmt: skip
    assert chat_request(parse(GenerateContentRequest, body), stream=True) == {
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "ab\nc"}, {"role": "assistant", "content": "d"}],
        "temperature": 0, "top_k": 3, "max_tokens": 7, "stop": ["x"], "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


@pytest.mark.parametrize("alt", ["sse", ""])
def test_generated_content_is_streamed_with_its_end_last(bench: Bench, endpoint: str, alt: str) -> None:
    answer = post(bench, f"{endpoint}:streamGenerateContent", GEMINI, alt=alt)
    pieces = events(answer.text) if alt else answer.json()
    assert [[part["text"] for part in piece["candidates"][0]["content"]["parts"]] for piece in pieces] == [["one "], ["two"]]
    assert "finishReason" not in pieces[0]["candidates"][0]
    assert (pieces[1]["candidates"][0]["finishReason"], pieces[1]["usageMetadata"]["totalTokenCount"]) == ("STOP", 5)
    refused = post(bench, f"{endpoint}:streamGenerateContent", {**GEMINI, "generationConfig": {"temperature": 3}}, alt=alt)
    assert error(refused)[1] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"contents": []}, "contents: found an empty list"),
        ({"contents": [{"role": "robot", "parts": [{"text": "a"}]}]}, "contents[0].role: found 'robot'; expected user or model."),
        ({"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": ""}}]}]}, "contents[0].parts: expected text"),
        ({"contents": [{"parts": []}]}, "contents[0].parts: expected text"),
        ({"tools": [{"googleSearch": {}}]}, "tools: not supported"),
        ({"generationConfig": {"responseMimeType": "application/json", "topK": 1.5}}, "topK: found 1.5"),
        ({"generationConfig": {"temprature": 1}}, "Did you mean 'temperature'?"),
    ],
)
def test_content_that_cannot_be_generated_is_refused(bench: Bench, endpoint: str, change: dict[str, Any], told: str) -> None:
    code, status, message = error(post(bench, f"{endpoint}:generateContent", {**GEMINI, **change}))
    assert (code, status) == (400, "INVALID_ARGUMENT")
    assert told in message


def test_tokens_are_counted_as_the_model_sees_them(bench: Bench, endpoint: str) -> None:
    tokenizer = load_tokenizer(TINY)
    ids = tokenizer.encode_prompt([Turn("system", "s"), Turn("user", "hello world")])
    contents = {"contents": [{"parts": [{"text": "hello world"}]}], "systemInstruction": {"parts": [{"text": "s"}]}}
    assert post(bench, f"{endpoint}:countTokens", contents).json() == {"totalTokens": len(ids), "totalBillableCharacters": 11}
    [info] = post(bench, f"{endpoint}:computeTokens", contents).json()["tokensInfo"]
    assert (info["tokenIds"], len(info["tokens"])) == ([str(id_) for id_ in ids], len(ids))
    two = {"instances": [{"prefix": "a"}, {"messages": [{"author": "user", "content": "b"}]}]}
    counted = [len(tokenizer.encode_prompt([Turn("user", text)])) for text in "ab"]
    assert post(bench, f"{endpoint}:countTokens", two).json()["totalTokens"] == sum(counted)
    assert error(post(bench, f"{endpoint}:countTokens", {}))[0] == 400
    assert "instances[0]" in error(post(bench, f"{endpoint}:countTokens", {"instances": [{"x": 1}]}))[2]


def test_a_deployed_model_is_asked_by_any_of_its_names(bench: Bench, endpoint: str, model: str) -> None:
    chat = {"route": "/v1/chat/completions", "choices": [{"index": 0, "message": {"role": "assistant", "content": "tiny"}, "finish_reason": "length"}]}
    names = ("tiny", "12", model, model.partition("@")[0], "tiny-code", "google/tiny", endpoint, "an endpoint", "")
    for path in ("chat/completions", f"{bench.place}/endpoints/openapi/chat/completions"):
        for name in names:
            answer = post(bench, path, {**CHAT, "model": name}).json()
            assert {key: answer[key] for key in chat} == chat, name
            assert answer["asked"] == CHAT
    assert post(bench, "completions", {"prompt": "x"}).json()["route"] == "/v1/completions"
    assert [item["id"] for item in bench.get("models")["data"]] == ["tiny"]
    assert bench.get("models/google/tiny")["id"] == "tiny"
    assert post(bench, f"{bench.place}/publishers/google/models/tiny:generateContent", GEMINI).status_code == 200


def test_a_name_that_nothing_has_or_that_is_missing_is_told(bench: Bench, endpoint: str, model: str) -> None:
    other = bench.deploy(endpoint, model, displayName="other")
    try:
        assert error(post(bench, "chat/completions", {**CHAT, "model": "nothing"})) == (
            404,
            "NOT_FOUND",
            "model 'nothing' does not exist. Deployed are tiny, other.",
        )
        assert error(post(bench, "chat/completions", CHAT))[2] == "model: missing; expected one of tiny, other."
        assert post(bench, "chat/completions", {**CHAT, "model": "other"}).json()["model"] == "other"
        for body in (b"{", b"[]", b'{"model": 1}'):
            assert error(bench.client.post("/v1/chat/completions", content=body))[:2] == (400, "INVALID_ARGUMENT")
    finally:
        bench.done(f"/v1/{endpoint}:undeployModel", {"deployedModelId": other})


def test_eight_requests_at_once_start_a_stopped_server_once(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = start_fake_servers(monkeypatch)
    endpoint = bench.new_endpoint()
    bench.deploy(endpoint, bench.upload(model_folder(tmp_path / "model"), "stopped"))
    post(bench, f"{endpoint}:rawPredict", {"stop_by_itself": True})
    assert (registry.find(endpoint).state, started) == ("STOPPED", ["stopped"])
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(bench, f"{endpoint}:predict", {"instances": [1]}).status_code, range(8)))
    assert (answers, started) == ([200] * 8, ["stopped", "stopped"])


def test_a_server_that_ends_in_the_middle_is_an_error_that_may_be_tried_again(bench: Bench, tmp_path: Path) -> None:
    endpoint = bench.new_endpoint()
    bench.deploy(endpoint, bench.upload(model_folder(tmp_path / "model"), "ends"))
    for way in ("stop_by_itself", "stop_in_the_middle"):
        code, status, message = error(post(bench, f"{endpoint}:rawPredict", {way: True}))
        assert (code, status) == (503, "UNAVAILABLE")
        assert "try again" in message


def test_an_answer_that_nobody_waits_for_is_given_up(bench: Bench, endpoint: str, tmp_path: Path) -> None:
    content = json.dumps({"instances": [], "until_gone": str(tmp_path)})
    with listening(bench.client.app) as url:  # type: ignore[arg-type]
        connection = http.client.HTTPConnection(urlsplit(url).netloc)
        connection.request("POST", f"/v1/{endpoint}:predict", content, {"Content-Type": "application/json"})
        wait_for(tmp_path / "asked")
        connection.close()
        wait_for(tmp_path / "gone")


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_tensors_carry_any_json_value() -> None:
    value = {"text": "a", "flag": True, "number": 3, "share": 0.5, "list": ["x", {"y": None}], "none": None}
    assert value_of(parse(Tensor, tensor_of(value))) == value
    assert value_of(parse(Tensor, {"struct_val": {"n": {"int64Val": ["7"]}, "l": {"string_val": ["a", "b"]}}})) == {"n": 7, "l": ["a", "b"]}


@pytest.mark.parametrize(
    ("instance", "pieces"),
    [
        ({"prefix": "x"}, [{"content": text, "safetyAttributes": {"blocked": False}} for text in ("one ", "two")]),
        (
            {"messages": [{"author": "user", "content": "x"}]},
            [{"candidates": [{"author": "bot", "content": text}], "safetyAttributes": [{"blocked": False}]} for text in ("one ", "two")],
        ),
        ({"prompt": "x", "raw_response": True}, ["one ", "two"]),
    ],
)
def test_predictions_are_streamed_as_tensors(bench: Bench, endpoint: str, instance: dict[str, Any], pieces: list[Any]) -> None:
    body = {"inputs": [tensor_of(instance)], "parameters": tensor_of({"maxOutputTokens": 5, "temperature": 0.5})}
    answer = post(bench, f"{endpoint}:serverStreamingPredict", body).json()
    assert [value_of(parse(Tensor, output)) for piece in answer for output in piece["outputs"]] == pieces


def test_a_streamed_prediction_is_of_one_instance(bench: Bench, endpoint: str) -> None:
    two = {"inputs": [tensor_of({"prefix": "x"})] * 2}
    assert "one instance" in error(post(bench, f"{endpoint}:serverStreamingPredict", two))[2]
    wrong = {"inputs": [tensor_of({"prefix": "x"})], "parameters": tensor_of({"temperature": 9})}
    assert "parameters.temperature" in error(post(bench, f"{endpoint}:serverStreamingPredict", wrong))[2]
