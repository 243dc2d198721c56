import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.registry.made_up import registered
from tuneline.errors import InfrastructureError, NotFoundError, UserError
from tuneline.registry import endpoints
from tuneline.registry.endpoints import Deployment, ServerReport, deployment_of
from tuneline.registry.files import write_json
from tuneline.registry.processes import ProcessIdentity
from tuneline.serving.server_options import read_options

SLEEPER = "import signal; print('ready', flush=True); signal.pause()"


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return deployment_of(registered(tmp_path))


@pytest.fixture
def process() -> Iterator["subprocess.Popen[str]"]:
    """A process whose command looks like a server's."""
    process = subprocess.Popen([sys.executable, "-c", SLEEPER, "tuneline.serving.server"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


def served_by(deployment: Deployment, home: Path, pid: int, **changes: str) -> None:
    """The files that a server with this process would have written."""
    identity = ProcessIdentity.of(pid)
    assert identity is not None
    write_json(home / "endpoints" / deployment.endpoint_id / "deployment.json", asdict(deployment))
    report = ServerReport(state="RUNNING", process=ProcessIdentity(**{**vars(identity), **changes}), url="http://127.0.0.1:9", start_time="2026-01-01T00:00:00")
    endpoints.report_server(deployment.endpoint_id, report)


def test_a_model_version_has_one_endpoint_for_ever(tmp_path: Path, deployment: Deployment) -> None:
    again, second = deployment_of(registered(tmp_path)), deployment_of(registered(tmp_path, "job-2"))
    assert again == deployment
    assert second.endpoint_id != deployment.endpoint_id
    assert re.fullmatch(r"projects/acme/locations/local/endpoints/\d{19}", deployment.endpoint_resource_name)
    assert deployment.command[:3] == ["python", "-m", "tuneline.serving.server"]


def test_a_server_takes_a_free_port_so_that_endpoints_do_not_meet(deployment: Deployment) -> None:
    assert deployment.command[deployment.command.index("--port") + 1] == "0"


def test_a_deployment_record_survives_its_file(deployment: Deployment) -> None:
    assert Deployment.from_mapping(asdict(deployment)) == deployment
    without_labels = {name: value for name, value in asdict(deployment).items() if name != "labels"}  # as earlier releases wrote it
    assert Deployment.from_mapping(without_labels) == deployment


@pytest.mark.parametrize(
    "change",
    [
        {"command": ["sh", "-c", "x"]},
        {"command": "python -m tuneline.serving.server"},
        {"endpoint_id": "../1"},
        {"colour": "red"},
        {"model_path": None},
    ],
    ids=str,
)
def test_nothing_but_our_server_is_started_from_a_record(deployment: Deployment, change: dict[str, object]) -> None:
    with pytest.raises(UserError, match="not a deployment record"):
        endpoints.start({name: value for name, value in {**asdict(deployment), **change}.items() if value is not None})


def test_an_empty_record_is_no_deployment() -> None:
    with pytest.raises(UserError, match="not a deployment record"):
        endpoints.start({})


def test_an_endpoint_runs_as_long_as_its_process(home: Path, deployment: Deployment, process: "subprocess.Popen[str]") -> None:
    served_by(deployment, home, process.pid)
    [endpoint] = endpoints.list_endpoints()
    assert (endpoint.state, endpoint.url, endpoint.reason) == ("RUNNING", "http://127.0.0.1:9", "")
    process.kill()
    process.wait()
    [endpoint] = endpoints.list_endpoints()
    assert (endpoint.state, endpoint.url) == ("STOPPED", "")
    assert "ended unexpectedly" in endpoint.reason
    assert str(endpoint.log) in endpoint.reason


def test_undeploying_ends_the_process_and_says_so(home: Path, deployment: Deployment, process: "subprocess.Popen[str]") -> None:
    served_by(deployment, home, process.pid)
    assert endpoints.undeploy(endpoints.find("latest"))
    assert process.wait() != 0
    assert (endpoints.find("latest").state, endpoints.find("latest").reason) == ("STOPPED", "undeployed")
    assert not endpoints.undeploy(endpoints.find("latest"))


@pytest.mark.parametrize("change", [{"started": "before the last boot/1"}, {"command": "python -m tuneline.serving.server --another"}])
def test_a_recycled_pid_is_never_killed(home: Path, deployment: Deployment, process: "subprocess.Popen[str]", change: dict[str, str]) -> None:
    served_by(deployment, home, process.pid, **change)
    assert not endpoints.undeploy(endpoints.find("latest"))
    assert process.poll() is None


def test_a_process_that_is_no_server_of_ours_is_never_killed(home: Path, deployment: Deployment) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE)
    assert stranger.stdout is not None
    stranger.stdout.readline()
    served_by(deployment, home, stranger.pid)
    assert not endpoints.undeploy(endpoints.find("latest"))
    assert stranger.poll() is None
    stranger.kill()
    stranger.communicate()


def test_an_endpoint_is_found_by_any_of_its_names_and_the_running_one_first(
    home: Path, tmp_path: Path, deployment: Deployment, process: "subprocess.Popen[str]"
) -> None:
    served_by(deployment, home, process.pid)
    newer = deployment_of(registered(tmp_path, "job-2"))
    served_by(newer, home, process.pid, started="earlier/0")
    for name in (deployment.endpoint_id, deployment.endpoint_resource_name, "My model", "latest"):
        assert endpoints.find(name).deployment == deployment
    assert endpoints.find(newer.endpoint_id).deployment == newer
    with pytest.raises(NotFoundError, match="Did you mean 'My model'"):
        endpoints.find("My modl")


def test_only_one_process_can_serve_an_endpoint(deployment: Deployment) -> None:
    claim = endpoints.claim(deployment.endpoint_id)
    assert claim is not None
    assert endpoints.claim(deployment.endpoint_id) is None
    claim.close()
    second = endpoints.claim(deployment.endpoint_id)
    assert second is not None
    second.close()


def test_a_server_that_cannot_start_is_reported_with_its_reason_and_log(tmp_path: Path, deployment: Deployment) -> None:
    (Path(deployment.model_path) / "config.json").write_text("damaged")
    with pytest.raises(InfrastructureError, match=r"did not start: its process ended.*config\.json") as error:
        endpoints.start(asdict(deployment))
    assert "server.log" in error.value.next_action
    endpoint = endpoints.find("latest")
    assert endpoint.state == "STOPPED"
    assert "config.json" in endpoint.reason


def test_a_name_that_looks_like_a_flag_is_none(tmp_path: Path) -> None:
    names = {"endpoint_resource_name": "e", "model_resource_name": "m", "model_path": tmp_path}
    command = endpoints.deployment(endpoint_id="1", display_name="--host=0.0.0.0", **names).command  # type: ignore[arg-type]
    options = read_options(command[3:], {})
    assert (options.host, options.display_name, options.model_path) == ("127.0.0.1", "--host=0.0.0.0", str(tmp_path))


def test_an_endpoint_is_wanted_until_it_is_undeployed(home: Path, deployment: Deployment, process: "subprocess.Popen[str]") -> None:
    served_by(deployment, home, process.pid)
    process.kill()
    process.wait()
    endpoint = endpoints.find("latest")
    assert (endpoint.is_alive, endpoint.is_wanted) == (False, True)
    endpoints.undeploy(endpoint)
    assert not endpoints.find("latest").is_wanted
    with pytest.raises(NotFoundError, match="not deployed"):
        endpoints.restart(deployment.endpoint_id)


def test_a_running_server_is_not_started_again(home: Path, deployment: Deployment, process: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch) -> None:
    served_by(deployment, home, process.pid)
    monkeypatch.setattr(endpoints, "_is_healthy", lambda _url: True)
    monkeypatch.setattr(endpoints, "_spawn", lambda *_: pytest.fail("started twice"))
    assert endpoints.restart(deployment.endpoint_id).report == endpoints.find("latest").report


def test_a_removed_endpoint_is_stopped_and_forgotten(home: Path, deployment: Deployment, process: "subprocess.Popen[str]") -> None:
    served_by(deployment, home, process.pid)
    endpoint = endpoints.find("latest")
    endpoints.remove(endpoint)
    assert process.wait() != 0
    assert endpoints.get(deployment.endpoint_id) is None
    assert not endpoints.undeploy(endpoint)
    with pytest.raises(NotFoundError, match="not deployed"):
        endpoints.restart(deployment.endpoint_id)
