"""Launches as TrainJobs: the real Kubernetes client against an API that checks objects by their schema."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.launching.fake_kubernetes import SCHEMA, FakeKubernetes, problems, serving
from tests.launching.orders import ONE_PLACE
from tests.vertex.stub_api import FakeTime
from tuneline import steps
from tuneline.errors import InfrastructureError, Interrupted, UserError
from tuneline.launching.on_kubernetes import TrainJobs
from tuneline.launching.order import Order, Try
from tuneline.launching.platforms import open_platform
from tuneline.launching.running import Launcher
from tuneline.launching.train_job import manifest, name_of
from tuneline.resolution import Machine
from tuneline.staging.job_folder import JobFolder

NAME = name_of(ONE_PLACE, Try())


class Bench:
    """A cluster, and launchers of one task."""

    def __init__(self, fake: FakeKubernetes, folder: Path) -> None:
        self.fake, self.folder, self.time = fake, folder, FakeTime()
        self.platform = TrainJobs(client=fake.client, namespace="team-a", clock=self.time.clock)

    def launcher(self, order: Order = ONE_PLACE) -> Launcher:
        return Launcher(order=order, platform=self.platform, resources=self.folder / "pod/gcp_resources", clock=self.time.clock)

    def then(self, *kinds: str, name: str = NAME) -> None:
        """Conditions that the job gets, one before each pause of the launcher; empty for none."""
        waiting, sleep = list(kinds), self.time.sleep

        def act(seconds: float) -> None:
            sleep(seconds)
            if waiting and (kind := waiting.pop(0)):
                self.fake.condition(name, kind, "a message")

        self.time.sleep = act  # type: ignore[method-assign]
        self.platform.clock = self.time.clock


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("TUNELINE_GCS_FOLDER", str(tmp_path / "buckets"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving() as fake:
        yield Bench(fake, tmp_path)


def test_a_train_job_is_created_and_waited_for(bench: Bench) -> None:
    bench.then("", "Suspended", "Complete")
    folder = bench.launcher().run()
    assert folder.uri == ONE_PLACE.folder(Try())
    assert bench.time.slept == [20.0] * 3
    assert (bench.folder / "pod/gcp_resources").read_text() == ""
    assert list(bench.fake.jobs) == [NAME]
    trainer = bench.fake.jobs[NAME]["spec"].pop("trainer")
    assert bench.fake.jobs[NAME]["spec"] == {"runtimeRef": {"name": "torch-distributed"}}
    assert trainer == {
        "image": "image:1", "command": ["python", "-m", "tuneline.steps.staged"], "args": list(ONE_PLACE.arguments), "numNodes": 2, "numProcPerNode": 8,
        "env": [{"name": "TUNELINE_JOB_FOLDER", "value": folder.uri}, {"name": "TUNELINE_PROCESSES", "value": "8"}],
        "resourcesPerNode": {"requests": {"nvidia.com/gpu": "8"}, "limits": {"nvidia.com/gpu": "8"}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("accelerator", "count", "expected"),
    [("NVIDIA_GPU", 1, {"nvidia.com/gpu": "1"}), ("TPU", 4, {"google.com/tpu": "4"}), ("", 0, None)],
)
def test_an_accelerator_is_asked_for_as_kubernetes_calls_it(accelerator: str, count: int, expected: dict[str, str] | None) -> None:
    place = Machine(region="kubernetes", machine_type="kubernetes", accelerator_type=accelerator, accelerator_count=count)
    made = manifest(replace(ONE_PLACE, places=(place,), resume_from="gs://b/earlier"), Try(attempt=12), "team-a")
    assert list(problems(made, SCHEMA)) == []
    assert made["spec"]["trainer"].get("resourcesPerNode") == ({"requests": expected, "limits": expected} if expected else None)
    assert made["metadata"]["name"] == f"tuneline-{ONE_PLACE.key[:16]}-12"
    assert made["metadata"]["labels"] == {"team": "a", "tuneline-launch": ONE_PLACE.key, "app.kubernetes.io/managed-by": "tuneline"}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"args": ["x"] * 129}, ".spec.trainer.args: size 129"),
        ({"numNodes": "2"}, ".spec.trainer.numNodes: found '2'; expected integer"),
        ({"numProcPerNode": 0}, ".spec.trainer.numProcPerNode: found 0"),
        ({"node": 1}, ".spec.trainer.node is unknown"),
    ],
)
def test_the_schema_refuses_what_is_wrong(change: dict[str, object], problem: str) -> None:
    made = manifest(ONE_PLACE, Try(), "team-a")
    made["spec"]["trainer"] |= change
    assert list(problems(made, SCHEMA)) == [problem]


def test_a_job_that_is_there_already_is_waited_for(bench: Bench) -> None:
    bench.platform.start(ONE_PLACE, Try())
    assert bench.platform.start(ONE_PLACE, Try()) == NAME
    bench.then("", "Complete")
    bench.launcher().run()
    assert len(bench.fake.jobs) == 1


def test_a_lost_answer_makes_no_second_job(bench: Bench) -> None:
    bench.fake.failures = [None]
    assert bench.platform.start(ONE_PLACE, Try()) == NAME
    assert bench.fake.asked == ["POST", "POST"]
    assert len(bench.fake.jobs) == 1


def test_a_failed_job_says_what_kubernetes_knows_and_the_next_launcher_makes_another(bench: Bench) -> None:
    bench.then("", "Failed")
    with pytest.raises(InfrastructureError, match=f"TrainJob {NAME} failed: Because: a message"):
        bench.launcher().run()
    second = name_of(ONE_PLACE, Try(attempt=2))
    bench.then("Complete", name=second)
    bench.launcher().run()
    assert list(bench.fake.jobs) == [NAME, second]


def test_a_failed_job_says_what_its_step_told(bench: Bench) -> None:
    JobFolder(uri=ONE_PLACE.folder(Try())).tell_error("tune-model", UserError("line 3: bad"))
    bench.then("Failed")
    with pytest.raises(UserError, match="line 3: bad"):
        bench.launcher().run()


def test_sigterm_deletes_the_job(bench: Bench) -> None:
    before = signal.signal(signal.SIGTERM, steps._interrupt)
    bench.time.sleep = lambda _seconds: os.kill(os.getpid(), signal.SIGTERM)  # type: ignore[method-assign]
    try:
        with pytest.raises(Interrupted):
            bench.launcher().run()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert bench.fake.jobs == {}


def test_a_job_that_somebody_deletes_may_be_tried_again(bench: Bench) -> None:
    bench.time.sleep = lambda _seconds: bench.fake.jobs.clear()  # type: ignore[method-assign]
    with pytest.raises(InfrastructureError, match="was deleted"):
        bench.launcher().run()
    bench.platform.start(ONE_PLACE, Try())
    bench.fake.jobs[NAME]["metadata"]["deletionTimestamp"] = "2026-11-29T00:00:00Z"
    assert bench.platform.look(NAME).state == "stopped"


@pytest.mark.parametrize("failure", [429, 500, 503, None])
def test_answers_that_pass_are_waited_out(failure: int | None, bench: Bench) -> None:
    bench.fake.failures = [failure, failure]
    bench.platform.start(ONE_PLACE, Try())
    bench.fake.failures = [failure]
    assert bench.platform.look(NAME).state == "open"
    bench.fake.failures = [failure]
    bench.platform.stop(NAME)
    assert bench.fake.jobs == {}
    assert len(bench.time.slept) == 4


def test_an_api_that_stays_away_is_infrastructure(bench: Bench) -> None:
    bench.fake.failures = [503] * 7
    with pytest.raises(InfrastructureError, match="503"):
        bench.platform.look(NAME)
    bench.fake.failures = [None] * 7
    with pytest.raises(InfrastructureError, match="cannot be reached"):
        bench.platform.look(NAME)


@pytest.mark.parametrize(("status", "action"), [(401, "create, get and delete"), (403, "create, get and delete"), (404, "Install Kubeflow Trainer v2")])
def test_what_the_cluster_lacks_is_the_users_to_give(status: int, action: str, bench: Bench) -> None:
    bench.fake.failures = [status]
    with pytest.raises(UserError) as caught:
        bench.platform.start(ONE_PLACE, Try())
    assert action in caught.value.next_action


def test_outside_of_a_cluster_there_is_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(UserError, match="no pod of a Kubernetes cluster"):
        open_platform("train-job")
