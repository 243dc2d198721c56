"""Puts the fake container engine on PATH and looks into it."""

import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.local.fake_docker import ask
from tests.local.fake_pipelines import eventually

DOCKER_INFO = {"MemoryLimit": True, "CpuCfsQuota": True, "PidsLimit": True, "InitBinary": "docker-init", "SecurityOptions": ["name=seccomp,profile=default"]}
PODMAN_INFO = {"host": {"security": {"rootless": True, "selinuxEnabled": True}, "cgroupControllers": ["memory", "pids"]}}
IMAGES = {"fake:1": "sha256:aa11", "registry.example.com/other:1": "sha256:bb22"}


@dataclass(frozen=True)
class FakeEngine:
    """A container engine of a test."""

    state: Path

    def set(self, name: str, value: object) -> None:
        """Change what the engine has or does: `info`, `images`, `registry` as JSON, all else as text."""
        if isinstance(value, dict):
            (self.state / f"{name}.json").write_text(json.dumps(value))
        else:
            (self.state / name).write_text(str(value))

    def calls(self, command: str) -> list[list[str]]:
        """The arguments of all calls of one command."""
        return [call["arguments"] for call in self._calls() if call["arguments"][0] == command]

    def environments(self, command: str) -> list[dict[str, str]]:
        """What the command line had in its own environment."""
        return [call["environment"] for call in self._calls() if call["arguments"][0] == command]

    def containers(self) -> list[str]:
        """The names of all that exist, running or not."""
        names = ask(self.state, {"do": "ps", "label": ""})["names"]
        assert isinstance(names, list)
        return names

    def _calls(self) -> list[dict[str, object]]:
        log = self.state / "calls.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@contextlib.contextmanager
def fake_engine(state: Path, programs: Path, name: str = "docker") -> Iterator[FakeEngine]:
    """A running engine whose command line is `programs/name`."""
    state.mkdir(parents=True)
    programs.mkdir(parents=True, exist_ok=True)
    engine = FakeEngine(state)
    engine.set("info", DOCKER_INFO if name == "docker" else PODMAN_INFO)
    engine.set("images", IMAGES)
    script = Path(__file__).with_name("fake_docker.py")
    (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "{script}" "{state}" "$@"\n')
    (programs / name).chmod(0o755)
    daemon = subprocess.Popen([sys.executable, "-S", "-E", str(script), str(state), "serve"])
    try:
        eventually((state / "socket").exists)
        yield engine
        left = engine.containers()
        for container in left:
            ask(state, {"do": "rm", "name": container})
        assert left == []
    finally:
        daemon.kill()
        daemon.wait()


def flag(arguments: list[str], name: str) -> list[str]:
    """All values of a flag in a command line."""
    return [value for given, value in itertools.pairwise(arguments) if given == name]
