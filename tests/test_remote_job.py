"""Jobs that run elsewhere: whose fault a failure is, and how long one that cannot be asked for is waited for."""

import pytest

from tests.vertex.stub_api import FakeTime
from tuneline.errors import InfrastructureError
from tuneline.remote_job import PATIENCE_SECONDS, JobState, RemoteFailure, RemoteJob, exit_code_of, follow


def job(state: JobState, failure: RemoteFailure | None = None) -> RemoteJob:
    return RemoteJob(name="x", display_name="x", state=state, url="", failure=failure)


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (9, "The replica workerpool0-0 exited with a non-zero status of 1. To find out more ...", 1),
        (9, "The replica workerpool0-0 exited with a non-zero status of 13.", 13),
        (9, "The replica workerpool0-0 exited with a non-zero status of 70.", 70),
        (9, "The replica workerpool0-0 exited with a non-zero status of 137.", 13),
        (0, "main: Error (exit code 2)", 2),
        (3, "rows.jsonl:7: no output", 1),
        (7, "denied", 1),
        (8, "quota", 13),
        (13, "internal", 13),
        (14, "unavailable", 13),
    ],
)
def test_the_exit_code_is_the_step_s_own_where_it_can_be_told(code: int, message: str, expected: int) -> None:
    assert exit_code_of(code, message) == expected


@pytest.mark.parametrize(
    ("state", "code", "expected"), [("SUCCEEDED", None, 0), ("RUNNING", None, 0), ("FAILED", 1, 1), ("FAILED", None, 13), ("CANCELLED", None, 75)]
)
def test_a_job_stands_for_an_exit_code(state: JobState, code: int | None, expected: int) -> None:
    failure = RemoteFailure(step="tune-model", cause="c", next_action="", code=code) if code else None
    assert job(state, failure).exit_code == expected


def test_a_failure_is_told_in_the_words_of_the_embedded_engine() -> None:
    told = job("FAILED", RemoteFailure(step="tune-model", cause="c", next_action="n", code=1)).to_json()
    assert told["error"] == {"attribution": "user", "step": "tune-model", "cause": "c", "next_action": "n", "code": 1}
    assert told["state"] == "PIPELINE_STATE_FAILED"
    assert "error" not in job("SUCCEEDED").to_json()


def test_a_job_is_followed_through_failures_that_pass() -> None:
    time, said = FakeTime(), list[str]()
    answers = [job("RUNNING"), InfrastructureError("no route"), job("RUNNING"), job("SUCCEEDED")]

    def look() -> RemoteJob:
        answer = answers.pop(0)
        if isinstance(answer, InfrastructureError):
            raise answer
        return answer

    seen = [seen.state for seen in follow(look, said=said.append, now=time.clock.now, sleep=time.sleep)]
    assert seen == ["RUNNING", "RUNNING", "SUCCEEDED"]
    assert said == ["no answer, asking again: no route"]


def test_patience_ends() -> None:
    time = FakeTime()

    def look() -> RemoteJob:
        raise InfrastructureError("no route")

    with pytest.raises(InfrastructureError):
        list(follow(look, now=time.clock.now, sleep=time.sleep))
    assert PATIENCE_SECONDS < time.moment < 2 * PATIENCE_SECONDS
