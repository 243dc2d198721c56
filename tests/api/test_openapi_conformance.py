"""Every operation of the committed OpenAPI document, asked as it should be and as it should not: no error of ours, and answers as they are described."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import APIOperation, BaseSchema, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from tests.api.one_of_everything import Everything, everything
from tuneline.api.app import create_app
from tuneline.api.document import operations

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text(encoding="utf-8"))
OPERATIONS = {operation["operationId"]: (path, method) for path, method, operation in operations(DOCUMENT)}
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
EXAMPLES = {GenerationMode.POSITIVE: 8, GenerationMode.NEGATIVE: 4}
"""Requests of an operation of v1. The functions behind v1beta1 are the same."""
REFUSED = {
    "delete_pipeline_job", "delete_custom_job", "delete_schedule", "delete_model", "delete_model_version", "delete_endpoint", "deploy_model", "undeploy_model",
    "delete_tensorboard", "delete_tensorboard_experiment", "delete_tensorboard_run", "delete_tensorboard_time_series", "rebase_tuned_model",
    "get_location_operation",
}  # fmt: skip
"""What cannot be had of a service on which nothing is tuned and nothing is to be deleted."""
IN_TURN = {"pause_schedule", "resume_schedule"}
"""What can be had only after the other."""
NEVER_WRONG = {"v1_list_deployed_models", "v1_get_deployed_model"}
"""Any request is as the document has it."""
ASKED = [
    *((GenerationMode.POSITIVE, operation_id) for operation_id in OPERATIONS),
    *((GenerationMode.NEGATIVE, operation_id) for operation_id in OPERATIONS if operation_id.startswith("v1_") and operation_id not in NEVER_WRONG),
]


@dataclass(frozen=True, kw_only=True)
class Served:
    """The document over a service."""

    schema: BaseSchema
    made: Everything

    def operation(self, operation_id: str) -> APIOperation[Any, Any, Any, Any]:
        path, method = OPERATIONS[operation_id]
        return self.schema[path][method]

    def check(self, case: Case) -> int:
        """Send the request and check the answer; its status."""
        response = case.call(base_url="http://127.0.0.1")
        case.validate_response(response, checks=CHECKS)
        return int(response.status_code)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with everything(tmp_path_factory.mktemp("home")) as made:
        schema = schemathesis.openapi.from_dict(DOCUMENT)
        schema.app = create_app(made.bench.service)
        yield Served(schema=schema, made=made)


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_a_proper_request_is_answered_as_described(served: Served, operation_id: str) -> None:
    made, body = served.made, served.made.body(operation_id)
    given_body = {} if body is None else {"body": body, "media_type": "application/json"}
    case = served.operation(operation_id).Case(path_parameters=made.names(operation_id), query=made.query(operation_id), **given_body)
    status, name = served.check(case), operation_id.partition("_")[2]
    assert name in IN_TURN or (status == 200) is (name not in REFUSED)


@pytest.mark.parametrize(("mode", "operation_id"), ASKED)
def test_any_request_is_answered_as_described(served: Served, mode: GenerationMode, operation_id: str) -> None:
    """By the schema for what is there; against it for names out of the air."""
    operation, names = served.operation(operation_id), served.made.names(operation_id)
    known = {parameter.name: names[parameter.name] for parameter in operation.path_parameters}
    statuses = []

    @settings(
        max_examples=EXAMPLES[mode] if operation_id.startswith("v1_") else 1,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(mode, path_parameters=known if mode is GenerationMode.POSITIVE else None))
    def ask(case: Case) -> None:
        statuses.append(served.check(case))

    ask()
    assert statuses
