"""Containers as strict as a cluster may ask for: an unprivileged user, a read-only root, no capability, no network but loopback."""

import contextlib
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import docker
from docker.models.containers import Container

USER = "10001:10001"
RESTRICTIONS = {
    "user": USER,
    "network_mode": "none",
    "read_only": True,
    "tmpfs": {"/tmp": ""},
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
}
SESSION_LABEL = "tuneline.test-session"
REMOVAL_SECONDS = 10
"""An engine removes a container that has ended a moment later."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a command in a container ended."""

    code: int
    output: str
    log: str
    """Standard error."""


@dataclass(frozen=True)
class Sandbox:
    """Starts containers and finds what is left of them."""

    client: docker.DockerClient
    session: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    @property
    def labels(self) -> dict[str, str]:
        """Marks the containers of this test session."""
        return {SESSION_LABEL: self.session}

    def run(self, image: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None, mounts: Mapping[Path, str] | None = None) -> Finished:
        """Run a command to its end. `mounts` are folders at their own paths, with the mode "ro" or "rw"."""
        with self.started(image, command, environment=environment, mounts=mounts) as container:
            return finish(container)

    @contextlib.contextmanager
    def started(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        mounts: Mapping[Path, str] | None = None,
        targets: Mapping[Path, str] | None = None,
        network_mode: str = "none",
    ) -> Iterator[Container]:
        """A container that is removed at the end, whatever happened; without a command it runs what its image says.

        `targets` are places of mounted folders other than their own paths.
        """
        volumes = {str(path): {"bind": (targets or {}).get(path, str(path)), "mode": mode} for path, mode in (mounts or {}).items()}
        order = {"entrypoint": [command[0]], "command": list(command[1:])} if command else {}
        container = self.client.containers.create(
            image, **order, environment=dict(environment or {}), volumes=volumes, labels=self.labels, **{**RESTRICTIONS, "network_mode": network_mode}
        )
        try:
            container.start()
            yield container
        finally:
            container.remove(force=True)

    def left_behind(self) -> list[str]:
        """Containers of this session that still exist, running or not."""
        until = time.monotonic() + REMOVAL_SECONDS
        while True:
            left = self.client.containers.list(all=True, filters={"label": f"{SESSION_LABEL}={self.session}"}, ignore_removed=True)
            if not left or time.monotonic() > until:
                return [f"{container.name} ({container.status}): {container.attrs['Config']['Cmd']}" for container in left]
            time.sleep(0.1)


def finish(container: Container, *, timeout_seconds: int = 300) -> Finished:
    """Wait until it has ended by itself."""
    code = container.wait(timeout=timeout_seconds)["StatusCode"]
    output, log = (container.logs(stdout=stdout, stderr=not stdout).decode() for stdout in (True, False))
    return Finished(code=code, output=output, log=log)


def ask(container: Container, *command: str) -> tuple[int, str]:
    """Exit code and output of a command inside a container; 125, as the engines' own command lines say, when it does not run any more."""
    try:
        code, output = container.exec_run(list(command))
    except docker.errors.APIError as error:
        return 125, str(error)
    return code, output.decode()
