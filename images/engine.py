"""Docker or podman by its command line: build, inspect, run."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tuneline.errors import InfrastructureError

EARLIEST = 315532800
"""1980, where zip files begin: what is built depends on the sources, not on the time."""

EngineName = Literal["docker", "podman"]


@dataclass(frozen=True, kw_only=True)
class Image:
    """What the engine says of an image."""

    name: str
    identity: str
    """Digest of its configuration, which names its layers by theirs."""
    size_bytes: int
    num_layers: int
    created: str
    labels: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A container engine."""

    name: EngineName
    environment: Mapping[str, str] = field(default_factory=dict)

    def build(self, dockerfile: Path, tag: str, arguments: Mapping[str, str], *, labels: Mapping[str, str], context: Path, use_cache: bool = True) -> None:
        """Build an image. What the engine says goes to standard error."""
        command = [self.name, "build", "--file", str(dockerfile), "--tag", tag, *(f"--build-arg={name}={value}" for name, value in arguments.items())]
        command += [f"--label={name}={value}" for name, value in labels.items()]
        if self.name == "podman":
            # The OCI format has no HEALTHCHECK; equal times make equal layers.
            command += ["--format=docker", f"--timestamp={EARLIEST}"]
        if not use_cache:
            command.append("--no-cache")
        if subprocess.run([*command, str(context)], stdout=sys.stderr, env={**os.environ, **self.environment}, check=False).returncode:
            raise InfrastructureError(f"{self.name} could not build {tag}; its last lines above say why.", next_action="See docs/images.md, Build.")

    def inspect(self, name: str) -> Image:
        """What is known of an image."""
        facts = json.loads(self._output("image", "inspect", name))[0]
        return Image(
            name=name,
            identity=f"sha256:{facts['Id'].removeprefix('sha256:')}",
            size_bytes=facts["Size"],
            num_layers=len(facts["RootFS"]["Layers"]),
            created=facts["Created"],
            labels=facts["Config"].get("Labels") or {},
        )

    def run_python(self, name: str, program: str) -> str:
        """The output of a Python program inside an image, with no network and nothing writable."""
        return self._output("run", "--rm", "--network=none", "--read-only", "--entrypoint=python", name, "-c", program)

    def _output(self, *arguments: str) -> str:
        done = subprocess.run([self.name, *arguments], capture_output=True, text=True, env={**os.environ, **self.environment}, check=False)
        if done.returncode:
            raise InfrastructureError(f"{self.name} {' '.join(arguments[:2])} failed: {done.stderr.strip()[-500:]}")
        return done.stdout


def find_engine(asked: EngineName | None) -> Engine:
    """The engine that was asked for; else the one behind Docker's interface, else podman."""
    server = _docker_server() if asked != "podman" and shutil.which("docker") else ""
    is_podman = "Podman" in server
    if server and (asked == "docker" or not is_podman or not shutil.which("podman")):
        # Podman behind Docker's interface has no BuildKit.
        return Engine(name="docker", environment={"DOCKER_BUILDKIT": "0"} if is_podman else {})
    if asked != "docker" and shutil.which("podman"):
        return Engine(name="podman")
    raise InfrastructureError(
        f"No container engine: found no {asked or 'docker or podman'} that answers.", next_action="Start Docker, or install podman and runc."
    )


def _docker_server() -> str:
    """The parts of the server that the docker command talks to; nothing when none answers."""
    command: Sequence[str] = ("docker", "version", "--format", "server {{range .Server.Components}}{{.Name}} {{end}}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""
