"""The OpenAPI document: current, and telling of every operation what there is to tell."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient

from scripts import openapi
from tuneline.api.document import ERRORS, TAGS, operations
from tuneline.api.path_names import PATTERN, WITH_SLASHES

DOCUMENT = json.loads(openapi.FILE.read_text(encoding="utf-8"))
OPERATIONS = list(operations(DOCUMENT))


def test_the_committed_document_is_what_the_service_answers(client: TestClient) -> None:
    assert client.get("/openapi.json").json() == DOCUMENT


def test_a_document_that_is_not_current_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    current = openapi.FILE.read_text(encoding="utf-8")
    monkeypatch.setattr(openapi, "FILE", tmp_path / "openapi.json")
    monkeypatch.setattr(openapi, "text", lambda: current)
    assert openapi.main(["--check"]) == 1
    assert openapi.main([]) == 0
    assert openapi.main(["--check"]) == 0
    openapi.FILE.write_text(current.replace("Get health", "Get wealth"), encoding="utf-8")
    assert openapi.main(["--check"]) == 1
    assert "is not current; run: python -m scripts.openapi" in capsys.readouterr().err


def test_it_is_an_openapi_document() -> None:
    schemathesis.openapi.from_dict(DOCUMENT).validate()


def test_every_operation_has_a_name_a_tag_and_a_summary() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(names)) == len(names) > 170
    assert all(re.fullmatch(r"(v1|v1beta1|ui|service)_[a-z_]+", name) for name in names)
    assert {tag for _, _, operation in OPERATIONS for tag in operation["tags"]} == set(TAGS)
    assert all(len(operation["tags"]) == 1 and operation["summary"] for _, _, operation in OPERATIONS)


def test_both_versions_have_the_same_operations() -> None:
    versions = {version: {(path.split("/", 2)[2], method) for path, method, _ in OPERATIONS if path.split("/")[1] == version} for version in ("v1", "v1beta1")}
    assert versions["v1"] == versions["v1beta1"]
    assert len(versions["v1"]) > 80


def test_every_path_parameter_is_described_with_its_pattern() -> None:
    for path, _, operation in OPERATIONS:
        described = [parameter["$ref"].rpartition("/")[2] for parameter in operation["parameters"] if "$ref" in parameter]
        assert described == re.findall(r"{(\w+)}", path)
    parameters = DOCUMENT["components"]["parameters"]
    assert {name for name, parameter in parameters.items() if parameter["schema"] == {"type": "string", "pattern": PATTERN}} == parameters.keys() - WITH_SLASHES


def test_errors_are_described_once() -> None:
    assert {error["content"]["application/json"]["schema"]["$ref"] for error in DOCUMENT["components"]["responses"].values()} == {"#/components/schemas/Status"}
    for path, _, operation in OPERATIONS:
        refused = {code: answer for code, answer in operation["responses"].items() if code != "200"}
        assert {"401", "403", "429"} <= refused.keys() <= {str(code) for code in ERRORS}
        assert all(answer == {"$ref": f"#/components/responses/{code}"} for code, answer in refused.items())
        assert ("413" in refused) is ("requestBody" in operation)
        assert ("400" in refused) is ("requestBody" in operation or "{" in path)


@pytest.mark.parametrize(
    ("operation_id", "request_body", "answer"),
    [
        ("v1_create_pipeline_job", "PipelineJob", "PipelineJob"),
        ("v1_create_tuning_job", "TuningJob-Input", "TuningJob-Output"),
        ("v1_list_schedules", None, "ListSchedulesResponse"),
        ("v1_upload_model", "UploadModelRequest", "Operation"),
        ("v1beta1_generate_content_endpoint", "GenerateContentRequest", None),
    ],
)
def test_messages_are_described(operation_id: str, request_body: str | None, answer: str | None) -> None:
    [operation] = [operation for _, _, operation in OPERATIONS if operation["operationId"] == operation_id]
    assert _message(operation.get("requestBody", {})) == request_body
    assert _message(operation["responses"]["200"]) == answer


def _message(described: dict[str, Any]) -> str | None:
    reference = described.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref")
    return reference.rpartition("/")[2] if reference else None
