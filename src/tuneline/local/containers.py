"""The command line that runs one task's command in a container: pure, and equally strict for every task.

What is a path on this machine is the same path in the container, so that files written in one mode are understood in the other.
"""

import hashlib
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from tuneline.errors import ParameterError
from tuneline.local.limits import Limits

EngineName = Literal["docker", "podman"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)

CANNOT_RUN = 125
"""Exit code of `docker run` and `podman run` when the container could not be made."""
_SIGNALLED, _LAST_SIGNAL = 128, 64
RUN_LABEL = "tuneline.run"
PIDS = 4096
"""Processes and threads of one container."""
SHARED_MEMORY_BYTES = 1 << 30
"""Engines give 64 MiB, too little for data loaders and for several GPUs."""

_SEPARATORS = ',"\n\r'
"""Of the list of values after `--mount`."""
_CLIENT_VARIABLES = re.compile(r"HOME|PATH|TMPDIR|(LD_|XDG_|DOCKER_|CONTAINER|PODMAN_|STORAGE_|REGISTRY_).*|GO(DEBUG|GC|MAXPROCS|MEMLIMIT|TRACEBACK)")
"""Variables that the engine's own command line obeys: a task's value for them must not reach it."""


@dataclass(frozen=True, kw_only=True)
class ContainerEngine:
    """A container engine and what it can do here."""

    name: EngineName
    rootless: bool = False
    """Its root is the person who calls it."""
    remapped: bool = False
    """Docker gives containers other user ids (userns-remap), unless asked not to."""
    labels_files: bool = False
    """SELinux keeps containers off files that are not labelled for them."""
    has_init: bool = False
    """It can put a small first process into a container, which hands on signals and collects orphans."""
    enforces: frozenset[str] = frozenset({"memory", "cpus", "pids"})
    """The limits that the kernel lets it set."""


@dataclass(frozen=True, kw_only=True)
class User:
    """Who the task is, on this machine."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine, at the same path in the container."""

    path: str
    writable: bool = False


@dataclass(frozen=True, kw_only=True)
class TaskContainer:
    """One attempt of a task."""

    name: str
    run_label: str
    """The same for all containers of a run."""
    image: str
    command: Sequence[str]
    folder: str
    """Working directory."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Variables whose values may be seen."""
    passed: Collection[str] = ()
    """Variables whose values the engine's command line finds in its own environment, where no list of processes shows them."""
    mounts: Sequence[Mount] = ()
    limits: Limits = field(default_factory=Limits)
    network: bool = False
    gpus: bool = False
    stop_seconds: float = 25.0
    """How long the engine waits when somebody else asks it to stop the container."""


def run_arguments(engine: ContainerEngine, container: TaskContainer, user: User) -> list[str]:
    """`docker run ...` in the foreground.

    Without `--rm`: when a container removes itself, Docker's command line on Podman's socket says 0 whatever its exit code was.
    """
    return [
        engine.name, "run", "--name", container.name, "--label", f"{RUN_LABEL}={container.run_label}", "--pull", "never",
        "--log-driver", "none",  # the output is attached, and written to the task's log
        *(["--init"] if engine.has_init else []),
        "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",  # noqa: S108  # the container's own
        *(["--security-opt", "label=disable"] if engine.labels_files else []),
        *user_arguments(engine, user),
        *_limit_arguments(engine, container.limits),
        "--shm-size", f"{SHARED_MEMORY_BYTES}b", "--stop-timeout", str(math.ceil(container.stop_seconds)),
        *([] if container.network else ["--network", "none"]),
        *(_gpu_arguments(engine) if container.gpus else []),
        *(argument for mount in container.mounts for argument in mount_arguments(engine, mount)),
        *(argument for key, value in container.settings.items() for argument in ("--env", f"{key}={value}")),
        *(argument for key in container.passed for argument in ("--env", key)),
        "--workdir", container.folder, "--entrypoint", container.command[0], container.image, *container.command[1:],
    ]  # fmt: skip


def removal_commands(engine: ContainerEngine, name: str) -> list[list[str]]:
    """What leaves nothing of a container. It is killed first, because `podman rm --force` first waits for it to end by itself."""
    return [[engine.name, "kill", name], [engine.name, "rm", "--force", name]]


def container_name(run_folder: str, task: str, attempt: str) -> str:
    """The name that this attempt always has, and no other."""
    return f"tuneline-{_digest(run_folder, task, attempt)}-{re.sub('[^A-Za-z0-9_.-]', '-', task)[:60]}"


def run_label(run_folder: str) -> str:
    """What all containers of a run are found by."""
    return _digest(run_folder)


def exit_code(code: int) -> int:
    """The exit code of the command in the container as that of a process here: negative for a signal."""
    return _SIGNALLED - code if _SIGNALLED < code <= _SIGNALLED + _LAST_SIGNAL else code


def split_environment(environment: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """A task's own variables: those to be written on the engine's command line, and those to be passed through its environment."""
    visible = {key: value for key, value in environment.items() if _CLIENT_VARIABLES.fullmatch(key)}
    return visible, {key: value for key, value in environment.items() if key not in visible}


def user_arguments(engine: ContainerEngine, user: User) -> list[str]:
    """The caller's own ids, so that the files that a task writes are the caller's."""
    if engine.rootless and engine.name == "docker":
        return ["--user", "0:0"]  # its root is the caller
    space = ["--userns", "keep-id"] if engine.rootless else ["--userns", "host"] if engine.remapped else []
    # A rootless engine cannot give away groups that it does not own.
    groups = [] if engine.rootless else [str(group) for group in user.groups if group != user.gid]
    return [*space, "--user", f"{user.uid}:{user.gid}", *(argument for group in groups for argument in ("--group-add", group))]


def mount_arguments(engine: ContainerEngine, mount: Mount) -> list[str]:
    """A bind mount. The two spellings that engines have cannot express every path: one ends at a comma, the other at a colon."""
    if not any(letter in mount.path for letter in _SEPARATORS):
        fields = ["type=bind", f"src={mount.path}", f"dst={mount.path}", *([] if mount.writable else ["readonly"])]
        return ["--mount", ",".join(fields)]
    if ":" in mount.path:
        raise ParameterError(
            f"{mount.path}: {engine.name} cannot mount a path that has both a colon and a comma or quotation mark.",
            next_action="Rename it, or leave out --containers.",
        )
    return ["--volume", f"{mount.path}:{mount.path}{'' if mount.writable else ':ro'}"]


def _limit_arguments(engine: ContainerEngine, limits: Limits) -> list[str]:
    memory = ["--memory", f"{limits.memory_bytes}b"] if limits.memory_bytes else []
    return [*(["--pids-limit", str(PIDS)] if "pids" in engine.enforces else []), *memory, *(["--cpus", f"{limits.cpus:g}"] if limits.cpus else [])]


def _gpu_arguments(engine: ContainerEngine) -> list[str]:
    devices = ["--gpus", "all"] if engine.name == "docker" else ["--device", "nvidia.com/gpu=all"]
    return [*devices, "--env", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"]


def _digest(*names: str) -> str:
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:12]
