"""The Node.js client over REST."""

import json
import re

from tests.clients.bench import NODE_FOLDER, PARENT, Server
from tests.clients.page import TEXT


def test_the_version_is_that_of_the_page() -> None:
    assert f"| {json.loads((NODE_FOLDER / 'package.json').read_text())['dependencies']['@google-cloud/aiplatform']}, Node.js" in TEXT


def test_the_lock_file_names_no_registry() -> None:
    assert '"resolved"' not in (NODE_FOLDER / "package-lock.json").read_text(encoding="utf-8")


def test_jobs_are_created_and_cancelled_and_a_tuned_model_is_deployed_and_asked(server: Server) -> None:
    assert server.page_sh("curl").code == 0  # there is a tuned model
    outcome = server.page_node("Node.js")
    assert outcome.code == 0, outcome.err
    assert re.findall(r"^(\w*STATE)_CANCELL(?:ING|ED)$", outcome.out, flags=re.MULTILINE) == ["PIPELINE_STATE", "JOB_STATE"]
    assert f"{PARENT}/pipelineJobs/tune-large-model-" in outcome.out
    assert f"{PARENT}/tuningJobs/" in outcome.out
    assert re.search(r"content: ['\"`]", outcome.out)
