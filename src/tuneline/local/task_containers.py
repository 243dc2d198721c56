"""The containers of one run: for each attempt of a task the command line that runs it, and what its exit code means."""

import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tuneline.errors import TemplateError
from tuneline.hardware import has_gpu
from tuneline.local import container_engine, containers, mounts, placeholders
from tuneline.local.containers import ContainerEngine, EngineName, TaskContainer, User
from tuneline.local.limits import Limits, Resources, cpu_count, memory_bytes
from tuneline.local.process import Launch
from tuneline.local.run_record import Artifact, ContainerRecord, Failure
from tuneline.local.spec import Container, Dag
from tuneline.registry import home
from tuneline.templates import PLACEHOLDER, Json

_HANDED_ON = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "CUDA_VISIBLE_DEVICES", "VERTEX_AI_PIPELINES_RUN_LABELS")
"""Variables of the engine that change how a task computes, and the run's labels. Everything else stays outside."""
_LOG_TAIL_BYTES = 4096
_ADVICE_LINE = re.compile(r"(Run|See) '.*'.*")


@dataclass(frozen=True, kw_only=True)
class ContainerOptions:
    """What was asked for."""

    engine: EngineName | None = None
    """Nothing: the one that this machine has."""
    limits: Limits = field(default_factory=Limits)
    """Instead of the template's."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try of a task."""

    task: str
    container: Container
    command: list[str]
    folder: Path
    own_variables: Mapping[str, str]
    """Those of the template."""
    engine_variables: Mapping[str, str]
    """Those by which engine and steps know each other."""
    placeholders: Mapping[str, str]
    inputs: Mapping[str, Artifact]


@dataclass(frozen=True, kw_only=True)
class TaskContainers:
    """What the containers of a run share."""

    engine: ContainerEngine
    record: ContainerRecord
    folder: Path
    """The run's."""
    uris: Mapping[str, str]
    """What the run's tasks will open, by the names of its parameters."""
    user: User
    gpus: bool
    stop_seconds: float

    @property
    def has_network(self) -> bool:
        """Whether tasks may use the network: only when one of the URIs is not on this machine."""
        return mounts.needs_network(self.uris)

    @property
    def summary(self) -> str:
        """For people who watch the run."""
        unlimited = "" if "pids" in self.engine.enforces else f" {self.engine.name} cannot limit the number of processes here."
        return f"Tasks run in containers of {self.engine.name}, {'with' if self.has_network else 'without'} network.{unlimited}"

    def launch(self, attempt: Attempt) -> Launch:
        """How an attempt is run."""
        credentials = mounts.credentials(self.uris.values(), os.environ, Path.home())
        seen = mounts.run_mounts(self.folder, home(), self.uris, attempt.command)
        inputs = [mount for mount in mounts.readable(artifact.uri for artifact in attempt.inputs.values()) if not mounts.within(seen, mount.path)]
        visible, hidden = containers.split_environment(attempt.own_variables)
        defaults = {key: value for key, value in _defaults(attempt.folder, credentials).items() if key not in attempt.own_variables}
        handed_on = [key for key in mounts.NETWORK_VARIABLES if self.has_network and key in os.environ and key not in hidden]
        name = containers.container_name(str(self.folder), attempt.task, attempt.folder.name)
        described = TaskContainer(
            name=name, run_label=containers.run_label(str(self.folder)), image=self.record.images[attempt.container.image], command=attempt.command,
            folder=str(attempt.folder), settings={**defaults, **visible, **attempt.engine_variables}, passed=[*hidden, *handed_on],
            mounts=mounts.merged([*seen, *inputs, *mounts.readable([credentials])]), limits=self._limits(attempt), network=self.has_network, gpus=self.gpus,
            stop_seconds=self.stop_seconds,
        )  # fmt: skip
        command = containers.run_arguments(self.engine, described, self.user)
        return Launch(command=command, environment={**os.environ, **hidden}, cleanup=containers.removal_commands(self.engine, name))

    def failure(self, name: str, container: Container, code: int, log: Path) -> Failure | None:
        """What an exit code tells that is of the container, not of the command in it."""
        if code == containers.CANNOT_RUN:
            action = "Mend that, then go on with: --resume. If it is about a limit, give another one with --container-memory or --container-cpus."
            cause = f"{name}: {self.engine.name} could not run the container: {last_words(log)}"
        elif code == -signal.SIGKILL and (self.record.limits.memory_bytes or container.resources.memory):
            action = (
                "Often its memory, which is limited, was not enough: go on with --resume and a larger --container-memory, or choose a smaller batch or model."
            )
            cause = f"{name} was ended by SIGKILL."
        else:
            return None
        return Failure(code=13, attribution="infrastructure", step=name, cause=cause, next_action=action, log=str(log))

    def _limits(self, attempt: Attempt) -> Limits:
        limits = self.record.limits.over(task_limits(attempt.task, attempt.container.resources, attempt.placeholders))
        container_engine.check_limits(self.engine, limits)
        return limits


def begin(dag: Dag, options: ContainerOptions, say: Callable[[str], None]) -> tuple[ContainerEngine, ContainerRecord]:
    """Choose the engine and settle the images of a new run; refuse what cannot work before a task starts."""
    engine = container_engine.find_engine(options.engine)
    for task, container in _containers(dag, ""):
        if PLACEHOLDER not in container.resources.memory + container.resources.cpus:
            container_engine.check_limits(engine, options.limits.over(task_limits(task, container.resources, {})))
    images = container_engine.identify_images(engine, container_engine.images_of(dag), say)
    return engine, ContainerRecord(engine=engine.name, images=images, limits=options.limits)


def go_on(record: ContainerRecord, limits: Limits) -> tuple[ContainerEngine, ContainerRecord]:
    """The same engine and images for a run that goes on, perhaps with other limits."""
    engine = container_engine.find_engine(record.engine)
    changed = replace(record, limits=limits.over(record.limits))
    container_engine.check_limits(engine, changed.limits)
    container_engine.check_images(engine, changed.images)
    return engine, changed


def open_containers(engine: ContainerEngine, record: ContainerRecord, folder: Path, parameters: Mapping[str, Json], stop_seconds: float) -> TaskContainers:
    """The containers of a run, none of which is left from before."""
    container_engine.remove_containers(engine, containers.run_label(str(folder)))
    uris = mounts.uris_of(parameters, downloads=home() / "downloads")
    return TaskContainers(engine=engine, record=record, folder=folder, uris=uris, user=container_engine.caller(), gpus=has_gpu(), stop_seconds=stop_seconds)


def task_limits(task: str, resources: Resources, values: Mapping[str, str]) -> Limits:
    """A task's limits as the template has them."""
    try:
        memory, cpus = (placeholders.resolve(text, values) for text in (resources.memory, resources.cpus))
        return Limits(memory_bytes=memory_bytes(memory) if memory else 0, cpus=cpu_count(cpus) if cpus else 0.0)
    except ValueError as error:
        raise TemplateError(f"{task}: the limit {error}.") from None


def last_words(log: Path) -> str:
    """The engine's own words: the last line of a log that is no advice."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
        lines = [line.strip() for line in stream.read().decode("utf-8", errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line and not _ADVICE_LINE.fullmatch(line)), "it did not say why.")


def _containers(dag: Dag, prefix: str) -> Iterator[tuple[str, Container]]:
    for name, task in dag.tasks.items():
        body = task.component.body
        if isinstance(body, Dag):
            yield from _containers(body, f"{prefix}{name}.")
        else:
            yield prefix + name, body


def _defaults(attempt: Path, credentials: str) -> dict[str, str]:
    """Variables that a template may set otherwise. The home folder is on disk, for libraries that keep caches there, and ends with the run."""
    here = {"HOME": str(attempt), "USER": "tuneline", "TUNELINE_HOME": str(home()), "PYTHONUNBUFFERED": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    here |= {key: os.environ[key] for key in _HANDED_ON if key in os.environ}
    return {**here, **({"GOOGLE_APPLICATION_CREDENTIALS": credentials} if credentials else {})}
