"""What the tests of custom jobs share: requests, and steps that end well, fail, or wait to be told."""

import errno
import os
import time
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import IO, Any

from tuneline.steps import deploy_model, select_checkpoint

STEP = "tuneline.steps.select_checkpoint"
END_STATES = ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED")


def command_of(module: Any, folder: Path, **values: object) -> list[str]:
    """The command of a step. Flags that need a value get the path of a file in the folder that may not exist."""
    needed = [field for group in module.FLAGS for field in fields(group) if field.default is MISSING and field.default_factory is MISSING]
    given = {field.name: str(folder / field.name) for field in needed} | {name: str(value) for name, value in values.items()}
    return ["python", "-m", module.__name__, *(text for name, value in given.items() for text in (f"--{name.replace('_', '-')}", value))]


def deploying_nothing(folder: Path) -> list[str]:
    """A step that ends well in a moment: `deploy_model` is false. Its outputs are in the folder."""
    return command_of(deploy_model, folder)


def waiting_step(pipe: Path) -> list[str]:
    """A step that reads a new pipe, until somebody writes into it or it gets SIGTERM."""
    os.mkfifo(pipe)
    return command_of(select_checkpoint, pipe.parent, resolved=pipe)


def reached(pipe: Path) -> IO[bytes] | None:
    """The other end of the pipe, once a step reads it; the step waits as long as it is open."""
    try:
        return os.fdopen(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK), "wb", buffering=0)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return None


def pool(command: list[str], replicas: int = 1, **values: Any) -> dict[str, Any]:
    """A worker pool on the machine that is asked for most."""
    machine = {"machineType": "a2-ultragpu-8g", "acceleratorType": "NVIDIA_A100_80GB", "acceleratorCount": 8}
    return {"machineSpec": machine, "replicaCount": replicas, "containerSpec": {"imageUri": "example.org/tuner:1", "command": command}, **values}


def job_of(*pools: dict[str, Any], name: str = "a job", spec: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    return {"displayName": name, "jobSpec": {"workerPoolSpecs": list(pools), **(spec or {})}, **values}


def wait_for(look: Callable[[], Any], seconds: float = 60) -> Any:
    """What the look finds, once it finds something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found
