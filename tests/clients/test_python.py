"""Google's Python clients run the page: google-cloud-aiplatform in two versions, google-genai."""

import re
from collections.abc import Callable

import pytest

from tests.clients.bench import PARENT, PYTHONS, Outcome, Server, require, wait_for
from tests.clients.page import TEXT, refusal

MODEL, ENDPOINT = rf"{PARENT}/models/\d+@1", rf"{PARENT}/endpoints/\d+"
Run = Callable[[str], Outcome]


@pytest.fixture(params=PYTHONS)
def run(request: pytest.FixtureRequest, server: Server) -> Run:
    """Runs what stands under a heading of the page."""
    return lambda heading: server.page_python(heading, request.param)


@pytest.mark.parametrize("version", PYTHONS)
def test_the_versions_are_those_of_the_page(server: Server, version: str) -> None:
    require(PYTHONS[version].exists(), f"google-cloud-aiplatform {version}")
    program = "from importlib.metadata import version; print(version('google-cloud-aiplatform'), version('google-genai'))"
    aiplatform, genai = server.run(PYTHONS[version], "-c", program).out.split()
    assert aiplatform == version
    assert f"| {genai} |" in TEXT
    assert version in TEXT


def test_a_hosted_model_is_tuned_listed_loaded_and_cancelled_and_adapters_are_refused(run: Run, server: Server) -> None:
    outcome = run("Tuning jobs")
    assert (outcome.code, refusal("Tuning jobs") in outcome.err) == (1, True), outcome.err
    assert [len(outcome.lines(pattern)) for pattern in (MODEL, ENDPOINT, "None")] == [1, 1, 1]
    first, second = re.findall(r"SupervisedTuningJob created\. Resource name: (\S+)", outcome.out + outcome.err)
    assert outcome.out.count(f"resource name: {first}") == 2  # in the list, and by its name
    wait_for(lambda: server.ask(f"/v1/{second}")["state"] == "JOB_STATE_CANCELLED")
    assert server.ask(f"/v1/{second}")["error"]["code"] == 1


def test_an_open_model_is_tuned_deployed_and_asked(run: Run) -> None:
    outcome = run("Open models")
    assert outcome.code == 0, outcome.err
    assert 'machine_type="local"' in outcome.out
    raw, prompted, _ = outcome.out.rpartition("Prompt:\nWhat is a car?\nOutput:\n")
    assert prompted
    assert "Prompt:" not in raw


def test_code_models_are_tuned_and_found_by_their_classes(run: Run, server: Server) -> None:
    outcome = run("Code models")
    assert outcome.code == 0, outcome.err
    models = [server.ask(f"/v1/{name}") for name in outcome.lines(rf"{PARENT}/models/\d+")]
    assert [model["labels"]["google-vertex-llm-tuning-base-model-id"] for model in models] == ["code-bison-002", "codechat-bison-002"]


def test_pipeline_jobs_are_submitted_waited_for_and_cancelled_and_schedules_kept(run: Run) -> None:
    outcome = run("Pipeline jobs and schedules")
    assert outcome.code == 0, outcome.err
    assert outcome.lines(r"PIPELINE_STATE_(SUCCEEDED|FAILED|CANCELLED)") == ["PIPELINE_STATE_SUCCEEDED", "PIPELINE_STATE_CANCELLED"]
    assert outcome.lines(r"\['cloned-.*'\]")
    assert outcome.lines(r"[123]") == ["1", "2", "1"]  # active, paused, active
    assert outcome.lines(r"\[\]")


def test_the_new_client_tunes_generates_and_lists(server: Server) -> None:
    outcome = server.page_python("google-genai", "1.165.1", init="google-genai")
    assert outcome.code == 0, outcome.err
    assert outcome.lines(r"JOB_STATE_\w+") == ["JOB_STATE_SUCCEEDED"]
    [model] = outcome.lines(MODEL)
    models, jobs = outcome.lines(r"\['projects/.*\]")
    assert model.partition("@")[0] in models
    assert len(set(re.findall(r"tuningJobs/\d+", jobs))) >= 2
