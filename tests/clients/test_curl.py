"""curl: the page's requests, and those of Vertex's documentation as they are printed, of which some cannot be read."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.bench import PARENT, TOKEN, Outcome, Server
from tests.clients.printed import PRINTED, VALUES, Printed

Send = Callable[[str, str], Outcome]


@pytest.fixture
def send(server: Server, tmp_path: Path) -> Send:
    """Runs a printed command, with the address, the project and `gcloud` of this test."""
    gcloud = tmp_path / "gcloud"
    gcloud.write_text(f"#!/bin/sh\necho {TOKEN}\n", encoding="utf-8")
    gcloud.chmod(0o755)
    board = server.ask(f"/v1/{PARENT}/tensorboards", "POST", json={"displayName": "a board"})["response"]["name"]

    def run(command: str, body: str) -> Outcome:
        for name, value in {**VALUES, "TENSORBOARD_RESOURCE_ID": board, "PROJECT_ID": "my-project"}.items():
            body = body.replace(name, value)
        (tmp_path / "request.json").write_text(body, encoding="utf-8")
        command = re.sub(r"https://\S+-aiplatform.googleapis.com", server.url, command)
        command = re.sub(r"/projects/PROJECT_ID/locations/REGION/", f"/{PARENT}/", command)
        return server.sh(f'PATH="{tmp_path}:$PATH" REGION=us-central1 PIPELINE_NAME=mine\n{command}', folder=tmp_path)

    return run


def test_the_page(server: Server) -> None:
    outcome = server.page_sh("curl")
    assert outcome.code == 0, outcome.err
    assert '"PIPELINE_STATE_SUCCEEDED"' in outcome.out
    [job] = set(re.findall(rf"{PARENT}/tuningJobs/\d+", outcome.out))
    assert server.ask(f"/v1/{job}")["state"] in ("JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED")


@pytest.mark.parametrize("printed", PRINTED.values(), ids=PRINTED)
def test_a_printed_request_is_accepted_or_told_what_is_wrong_and_where(server: Server, send: Send, printed: Printed) -> None:
    answer = json.loads(send(printed.command, printed.body).out)
    if not printed.told:
        assert server.cancelled(answer["name"])["state"].endswith("_CANCELLED")
        return
    assert (answer["error"]["code"], answer["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert re.fullmatch(printed.told, answer["error"]["message"]), answer["error"]["message"]


@pytest.mark.parametrize("printed", [printed for printed in PRINTED.values() if printed.mended], ids=[name for name in PRINTED if PRINTED[name].mended])
def test_a_printed_request_is_accepted_once_it_is_mended(server: Server, send: Send, printed: Printed) -> None:
    command, body = printed.command, printed.body
    for wrong, right in printed.mended:
        assert wrong in command + body
        command, body = command.replace(wrong, right), body.replace(wrong, right)
    answer = json.loads(send(command, body).out)
    assert "error" not in answer, answer
    assert server.cancelled(answer["name"])["state"].endswith("_CANCELLED")
