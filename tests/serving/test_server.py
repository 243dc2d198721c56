import http.client
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tuneline.data.conversation import Turn
from tuneline.data.tokens import load_tokenizer
from tuneline.registry.client import request
from tuneline.serving.server_options import MAX_BODY_BYTES

PROMPTS = ["def f(", "a", "What does this do?\nfor x in y: print(x)", "é日本", "<|end_of_turn|>", "x" * 100, "b", "c"]


def post(url: str, path: str, body: Mapping[str, object]) -> tuple[int, dict[str, Any]]:
    return request(url, path, body, timeout_seconds=60)


def raw(url: str, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> tuple[int, str]:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    answer = response.status, response.read().decode()
    connection.close()
    return answer


def answer_to(url: str, prompt: str) -> str:
    status, response = post(url, "/predict", {"instances": [{"prompt": prompt, "raw_response": True, "max_tokens": 12.0}]})
    assert status == 200, response
    [text] = response["predictions"]
    return str(text)


def test_all_instances_are_answered_in_order_each_as_it_would_be_alone(url: str) -> None:
    instances = [{"prompt": prompt, "raw_response": True, "max_tokens": 12} for prompt in PROMPTS]
    status, response = post(url, "/predict", {"instances": instances})
    assert status == 200
    assert response["predictions"] == [answer_to(url, prompt) for prompt in PROMPTS]
    assert len(set(response["predictions"])) == len(PROMPTS)
    assert all(1 <= count <= 12 for count in response["output_token_counts"])


def test_eight_clients_at_once_get_the_answers_that_one_gets(url: str) -> None:
    alone = [answer_to(url, prompt) for prompt in PROMPTS]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda prompt: answer_to(url, prompt), PROMPTS * 3)) == alone * 3


def test_the_endpoint_answers_by_its_resource_name_as_vertex_does(model_folder: Path, url: str) -> None:
    body = {
        "instances": [{"messages": [{"author": "user", "content": "a"}], "context": "Be brief."}],
        "parameters": {"maxDecodeSteps": 4.0, "temperature": 0.0},
    }
    status, response = post(url, "/v1/projects/p/locations/local/endpoints/77:predict", body)
    assert status == 200
    assert response["deployedModelId"] == "77"
    assert response["model"] == "projects/p/locations/local/models/5@1"
    assert response["modelDisplayName"] == "demo"
    [prediction] = response["predictions"]
    assert prediction["candidates"][0]["author"] == "bot"
    num_prompt = len(load_tokenizer(model_folder).encode_prompt([Turn("system", "Be brief."), Turn("user", "a")]))
    assert response["metadata"] == {"tokenMetadata": {"inputTokenCount": {"totalTokens": num_prompt}, "outputTokenCount": {"totalTokens": 4}}}
    status, response = post(url, "/v1/projects/p/locations/local/endpoints/78:predict", body)
    assert (status, response["error"]["status"]) == (404, "NOT_FOUND")


def test_the_openai_route_gives_the_same_answer_with_usage_and_finish_reason(url: str) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "a"}], "max_tokens": 12}
    status, chat = post(url, "/v1/chat/completions", body)
    assert status == 200
    [choice] = chat["choices"]
    assert choice["message"] == {"role": "assistant", "content": answer_to(url, "a")}
    assert choice["finish_reason"] in ("stop", "length")
    assert chat["usage"]["total_tokens"] == chat["usage"]["prompt_tokens"] + chat["usage"]["completion_tokens"]
    status, by_predict = post(url, "/predict", body | {"@requestFormat": "chatCompletions"})
    assert by_predict["choices"] == chat["choices"]
    status, by_instance = post(url, "/predict", {"instances": [body | {"@requestFormat": "chatCompletions"}]})
    assert by_instance["predictions"]["choices"] == chat["choices"]
    status, completions = post(url, "/v1/completions", {"prompt": ["a", "b"], "max_tokens": 12})
    assert [choice["text"] for choice in completions["choices"]] == [answer_to(url, "a"), answer_to(url, "b")]
    assert request(url, "/v1/models", timeout_seconds=60)[1]["data"][0]["id"] == "demo"


def test_a_stream_brings_the_same_text_in_pieces(url: str) -> None:
    body = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 12, "stream": True, "stream_options": {"include_usage": True}}
    status, text = raw(url, "POST", "/v1/chat/completions", json.dumps(body).encode())
    assert status == 200
    *events, done = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert done == "[DONE]"
    *chunks, usage = [json.loads(event) for event in events]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == answer_to(url, "a")
    assert len(chunks) > 3
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"][0]["finish_reason"] in ("stop", "length")
    assert usage["usage"]["completion_tokens"] <= 12


def test_a_stop_sequence_ends_an_answer_and_is_not_part_of_it(url: str) -> None:
    whole = answer_to(url, "a")
    stop = whole[5:7]
    body = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 12, "stop": [stop]}
    _, chat = post(url, "/v1/chat/completions", body)
    [choice] = chat["choices"]
    assert choice["message"]["content"] == whole[: whole.index(stop)]
    assert choice["finish_reason"] == "stop"


def test_several_answers_at_a_temperature_differ(url: str) -> None:
    body = {"instances": [{"content": "a"}], "parameters": {"temperature": 1.5, "candidateCount": 3, "maxOutputTokens": 8}}
    status, response = post(url, "/predict", body)
    assert status == 200
    assert len({prediction["content"] for prediction in response["predictions"]}) == 3


def test_what_does_not_fit_the_context_is_refused_with_what_does(url: str) -> None:
    status, response = post(url, "/predict", {"instances": [{"prompt": "a" * 50, "max_tokens": 250}, {"prompt": "b" * 400}]})
    assert status == 400
    first, second = response["error"]["message"].splitlines()
    assert first.startswith("instances[0]: the prompt has")
    assert "ask for at most" in first
    assert "shorten the prompt" in second
    status, response = post(url, "/predict", {"instances": [{"prompt": "a" * 200}]})
    assert status == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "body: not JSON"),
        (b'{"instances": [{"content": "a"}], "parameters": {"temperature": NaN}}', "body: not JSON"),
        (b"[" * 100_000, "body: not JSON"),
        (b"\xff", "body: not JSON"),
        (b'{"instances": [{"content": "a"}], "parameters": {"maxOutputTokens": 1e999}}', "max"),
        (b'{"instances": [{"prompt": 1}]}', "instances[0].prompt: found a number"),
        (json.dumps({"instances": [{"content": "a"}] * 300}).encode(), "300 answers in one request"),
    ],
)
def test_a_bad_body_is_a_400_that_says_what_is_wrong(url: str, body: bytes, message: str) -> None:
    status, text = raw(url, "POST", "/predict", body)
    error = json.loads(text)["error"]
    assert (status, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    assert message in error["message"] or message == "max"


def test_a_body_that_is_too_long_is_refused(url: str) -> None:
    status, text = raw(url, "POST", "/predict", b" " * (MAX_BODY_BYTES + 1))
    assert (status, json.loads(text)["error"]["code"]) == (413, 413)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example:80"}, {"Host": "[bad"}, {"Origin": "https://evil.example"}, {"Origin": "null"}]
)
def test_who_calls_by_a_foreign_name_is_turned_away(url: str, method: str, headers: dict[str, str]) -> None:
    status, text = raw(url, method, "/predict", b"{}", headers)
    assert (status, json.loads(text)["error"]["status"]) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1", "[::1]:80"])
def test_this_machines_own_names_are_welcome(url: str, host: str) -> None:
    assert raw(url, "GET", "/ping", headers={"Host": host, "Origin": f"http://{host}"})[0] == 200


def test_unknown_routes_and_methods_have_the_same_error_form(url: str) -> None:
    for method, path, code in (("GET", "/nothing", 404), ("GET", "/predict", 405)):
        status, text = raw(url, method, path)
        assert (status, json.loads(text)["error"]["code"]) == (code, code)


def test_a_seed_repeats_an_answer_where_the_engine_has_seeds(url: str, engine_name: str) -> None:
    def answers(seed: int) -> Any:
        body = {"instances": [{"content": "a"}], "parameters": {"temperature": 1.5, "candidateCount": 3, "maxOutputTokens": 8, "seed": seed}}
        return post(url, "/predict", body)

    status, response = answers(5)
    if engine_name == "transformers":
        assert (status, response["error"]["message"].split(":")[0]) == (400, "instances[0]")
        assert "a seed is not supported with a temperature above 0" in response["error"]["message"]
        return
    assert status == 200
    assert answers(5)[1]["predictions"] == response["predictions"]
    assert answers(50)[1]["predictions"] != response["predictions"]
    assert len({prediction["content"] for prediction in response["predictions"]}) == 3  # though they have one seed
