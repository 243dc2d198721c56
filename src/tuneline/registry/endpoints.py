"""Endpoints on this machine: one folder and at most one server process each, `endpoints/<id>/{deployment.json, server.json, server.log}`.

Every file has one writer: `start` writes the deployment, the server itself writes what it is doing, `undeploy` leaves a mark. A server
belongs to no task and no terminal; it ends by `undeploy`, or by itself when nobody has asked it anything for a while. One that ended by
itself, or with the machine, is still wanted: `restart` brings it back.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import BinaryIO, Literal

from tuneline.errors import InfrastructureError, NotFoundError, UserError, did_you_mean
from tuneline.registry import home, resource_id
from tuneline.registry.client import request
from tuneline.registry.files import locked, read_json, remove_folder, try_lock, write_json
from tuneline.registry.models import ModelVersion
from tuneline.registry.processes import POLL_SECONDS, ProcessIdentity

SERVER = ("python", "-m", "tuneline.serving.server")
IDLE_TIMEOUT_SECONDS = 1800
HEALTH_ROUTE = "/health"
GRACE_SECONDS = 10.0
UNDEPLOYED = "undeployed"
"""Name of the mark."""

State = Literal["STARTING", "RUNNING", "STOPPED"]


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What shall be served: the deployment record that `deploy-model` writes."""

    endpoint_resource_name: str
    endpoint_id: str
    display_name: str
    model_resource_name: str
    model_path: str
    command: Sequence[str]
    idle_timeout_seconds: int
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_mapping(cls, record: Mapping[str, object]) -> "Deployment":
        """The deployment of a parsed record. Nothing but our own server is ever started from a file."""
        names = {known.name for known in fields(cls)}
        command = record.get("command")
        is_ours = isinstance(command, list) and tuple(command[: len(SERVER)]) == SERVER
        if set(record) | {"labels"} != names or not is_ours or not str(record["endpoint_id"]).isdigit():
            expected = f"expected {sorted(names)}, with a command that begins with {' '.join(SERVER)!r}."
            raise UserError(f"not a deployment record: found the keys {sorted(record)}; {expected}")
        return cls(**record)  # type: ignore[arg-type]  # the keys are checked above


@dataclass(frozen=True, kw_only=True)
class ServerReport:
    """What a server says about itself."""

    state: State
    process: ProcessIdentity
    url: str
    start_time: str
    reason: str = ""
    """Why it stopped."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A deployment and what became of it."""

    deployment: Deployment
    report: ServerReport | None
    is_alive: bool
    is_wanted: bool
    """Whether nobody has undeployed it."""
    log: Path

    @property
    def state(self) -> State:
        return self.report.state if self.report and self.is_alive else "STOPPED"

    @property
    def reason(self) -> str:
        """Why it is stopped."""
        if self.is_alive or self.report is None:
            return ""
        return self.report.reason if self.report.state == "STOPPED" else f"its process ended unexpectedly; see {self.log}"

    @property
    def url(self) -> str:
        return self.report.url if self.report and self.is_alive else ""

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.deployment.endpoint_resource_name,
            "id": self.deployment.endpoint_id,
            "displayName": self.deployment.display_name,
            "labels": dict(self.deployment.labels),
            "model": self.deployment.model_resource_name,
            "state": self.state,
            "reason": self.reason,
            "url": self.url,
            "pid": self.report.process.pid if self.report and self.is_alive else 0,
            "startTime": self.report.start_time if self.report else "",
            "idleTimeoutSeconds": self.deployment.idle_timeout_seconds,
            "log": str(self.log),
        }


def deployment_of(model: ModelVersion, *, idle_timeout_seconds: int = IDLE_TIMEOUT_SECONDS, labels: Mapping[str, str] | None = None) -> Deployment:
    """The deployment of a registered model version. Each version has one endpoint, so that deploying twice makes no second one."""
    endpoint_id = resource_id(model.resource_name)
    return deployment(
        endpoint_id=endpoint_id,
        endpoint_resource_name=f"projects/{model.registration.project}/locations/{model.registration.location}/endpoints/{endpoint_id}",
        display_name=model.registration.display_name,
        model_resource_name=model.resource_name,
        model_path=model.artifact_folder,
        idle_timeout_seconds=idle_timeout_seconds,
        labels=labels,
    )


def deployment(
    *,
    endpoint_id: str,
    endpoint_resource_name: str,
    display_name: str,
    model_resource_name: str,
    model_path: Path,
    idle_timeout_seconds: int = IDLE_TIMEOUT_SECONDS,
    labels: Mapping[str, str] | None = None,
) -> Deployment:
    """The deployment of a model's folder. `endpoint_id` names the server; several of them may be behind one `endpoint_resource_name`."""
    flags = {
        "--model-path": str(model_path),
        "--port": "0",  # several endpoints live on one machine
        "--endpoint-id": endpoint_id,
        "--endpoint-resource-name": endpoint_resource_name,
        "--model-resource-name": model_resource_name,
        "--display-name": display_name,
        "--idle-timeout": str(idle_timeout_seconds),
    }
    return Deployment(
        endpoint_resource_name=endpoint_resource_name,
        endpoint_id=endpoint_id,
        display_name=display_name,
        model_resource_name=model_resource_name,
        model_path=str(model_path),
        # A name may begin with a dash; it must not be read as a flag.
        command=[*SERVER, *(word for name, value in flags.items() for word in ([f"{name}={value}"] if value.startswith("-") else [name, value]))],
        idle_timeout_seconds=idle_timeout_seconds,
        labels=labels or {},
    )


def start(record: Mapping[str, object], *, timeout_seconds: float = 600) -> Endpoint:
    """Start the server that a deployment record describes, and wait until it is healthy. One that runs already is left alone."""
    deployment = Deployment.from_mapping(record)
    folder = _folder(deployment.endpoint_id)
    with locked(folder / "start.lock"):
        known = _read(folder)
        if known and known.is_alive:
            return _wait_until_healthy(folder, known.deployment, None, timeout_seconds)
        (folder / UNDEPLOYED).unlink(missing_ok=True)
        write_json(folder / "deployment.json", asdict(deployment))
        return _start(folder, deployment, timeout_seconds)


def restart(endpoint_id: str, *, timeout_seconds: float = 600) -> Endpoint:
    """Bring back a server that ended by itself; one that runs is left alone. Raises NotFoundError when it was undeployed meanwhile."""
    folder = _folder(endpoint_id)
    if _read(folder) is None:
        raise _gone(endpoint_id)
    with locked(folder / "start.lock"):
        known = _read(folder)
        if known is None or not known.is_wanted:
            raise _gone(endpoint_id)
        if known.is_alive:
            return _wait_until_healthy(folder, known.deployment, None, timeout_seconds)
        return _start(folder, known.deployment, timeout_seconds)


def _gone(endpoint_id: str) -> NotFoundError:
    return NotFoundError(f"endpoint {endpoint_id} is not deployed on this machine.", next_action="Deploy its model again.")


def _start(folder: Path, deployment: Deployment, timeout_seconds: float) -> Endpoint:
    process = _spawn(deployment, folder)
    try:
        return _wait_until_healthy(folder, deployment, process, timeout_seconds)
    except BaseException:  # also when the user stops waiting: nothing is left behind
        started = ProcessIdentity.of(process.pid)
        if started:
            started.stop(grace_seconds=GRACE_SECONDS)
        raise


def undeploy(endpoint: Endpoint) -> bool:
    """Stop the endpoint's server, for good when it does not end by itself. Whether one ran."""
    with contextlib.suppress(FileNotFoundError):  # forgotten meanwhile
        (_folder(endpoint.deployment.endpoint_id) / UNDEPLOYED).touch()
    report = endpoint.report
    if report is None or SERVER[-1] not in report.process.command:
        return False
    has_run = report.process.stop(grace_seconds=GRACE_SECONDS)
    now = _read(_folder(endpoint.deployment.endpoint_id))
    if has_run and now and now.report == report:  # it had no time to say so itself
        report_server(endpoint.deployment.endpoint_id, replace(report, state="STOPPED", reason="undeployed"))
    return has_run


def remove(endpoint: Endpoint) -> None:
    """Stop the endpoint's server and forget the endpoint, also one that is just being started."""
    folder = _folder(endpoint.deployment.endpoint_id)
    undeploy(endpoint)
    with locked(folder / "start.lock"):
        now = _read(folder)
        if now is not None:
            undeploy(now)
        remove_folder(folder)


def get(endpoint_id: str) -> Endpoint | None:
    """The endpoint with this id, or nothing."""
    return _read(_folder(endpoint_id))


def list_endpoints() -> list[Endpoint]:
    """All endpoints, running or not, the one that was started last first."""
    found = [endpoint for folder in (home() / "endpoints").glob("*") if (endpoint := _read(folder))]
    return sorted(found, key=lambda endpoint: endpoint.report.start_time if endpoint.report else "", reverse=True)


def find(name: str) -> Endpoint:
    """The endpoint with this id, resource name or display name, or the `latest`; of several the running one."""
    known = list_endpoints()
    matching = [e for e in known if name in ("latest", e.deployment.endpoint_id, e.deployment.endpoint_resource_name, e.deployment.display_name)]
    if not matching:
        names = sorted({endpoint.deployment.display_name for endpoint in known})
        raise NotFoundError(
            f"no endpoint {name!r} on this machine.{did_you_mean(name, names)}",
            next_action="tuneline endpoints list shows the endpoints; tuneline endpoints deploy MODEL makes one.",
        )
    return next((endpoint for endpoint in matching if endpoint.is_alive), matching[0])


def claim(endpoint_id: str) -> BinaryIO | None:
    """For the server: the right to serve this endpoint, as long as the file stays open; nothing when another server has it."""
    return try_lock(_folder(endpoint_id) / "serving.lock")


def report_server(endpoint_id: str, report: ServerReport) -> None:
    """For the server: say what it is doing."""
    write_json(_folder(endpoint_id) / "server.json", asdict(report))


def _folder(endpoint_id: str) -> Path:
    return home() / "endpoints" / endpoint_id


def _read(folder: Path) -> Endpoint | None:
    deployment = read_json(folder / "deployment.json")
    return None if deployment is None else _with_report(folder, Deployment.from_mapping(deployment))


def _with_report(folder: Path, deployment: Deployment) -> Endpoint:
    values = read_json(folder / "server.json")
    report = ServerReport(**{**values, "process": ProcessIdentity(**values["process"])}) if values else None
    is_alive = report is not None and report.state != "STOPPED" and report.process.is_alive()
    return Endpoint(deployment=deployment, report=report, is_alive=is_alive, is_wanted=not (folder / UNDEPLOYED).exists(), log=folder / "server.log")


def _spawn(deployment: Deployment, folder: Path) -> "subprocess.Popen[bytes]":
    # The package that runs now is the one that must run there, also when it was found through a relative path.
    package_root = Path(__file__).resolve().parents[2]
    paths = [str(package_root), *(str(Path(path).resolve()) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path)]
    environment = {
        **os.environ,
        "TUNELINE_HOME": str(home()),
        "PYTHONPATH": os.pathsep.join(paths),
        # Spinning threads starve everything else on the machine: seconds for a generation that takes 0.2 s.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    with (folder / "server.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *deployment.command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )


def _wait_until_healthy(folder: Path, deployment: Deployment, process: "subprocess.Popen[bytes] | None", timeout_seconds: float) -> Endpoint:
    deadline = time.monotonic() + timeout_seconds
    while True:
        endpoint = _with_report(folder, deployment)
        if endpoint.state == "RUNNING" and _is_healthy(endpoint.url):
            return endpoint
        has_ended = not endpoint.is_alive and (process is None or process.poll() is not None)
        if has_ended or time.monotonic() > deadline:
            found = "its process ended" if has_ended else f"it was not healthy within {timeout_seconds:.0f} s"
            problem = f"endpoint {deployment.display_name!r} did not start: {found}. {_last_line(endpoint.log)}"
            raise InfrastructureError(problem.rstrip(), next_action=f"Its log is {endpoint.log}")
        time.sleep(POLL_SECONDS)


def _is_healthy(url: str) -> bool:
    try:
        return request(url, HEALTH_ROUTE, timeout_seconds=10)[0] == 200
    except InfrastructureError:  # it may have ended just now, which the next look tells
        return False


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return f"It said last: {lines[-1]}" if lines else ""
