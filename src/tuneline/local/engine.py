"""The embedded engine: runs the tasks of a compiled template, as child processes or in containers, and writes down what happens.

One thread decides and records; each running task has a thread that prepares it, waits for its process and collects its outputs.
"""

import signal
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType

from tuneline.errors import InfrastructureError, ParameterError, TunelineError, UserError
from tuneline.local import task_containers
from tuneline.local.cache import TaskCache
from tuneline.local.containers import ContainerEngine
from tuneline.local.display import Display, Silence
from tuneline.local.graph import Graph, Node, filled
from tuneline.local.limits import Limits
from tuneline.local.log_follower import LogFollower
from tuneline.local.process import Stopped, TaskProcesses
from tuneline.local.reading import read_pipeline
from tuneline.local.results import publish_pages
from tuneline.local.run_folder import RunFolder
from tuneline.local.run_record import LOCATION, Failure, RunRecord, RunState, TaskState, now
from tuneline.local.spec import Container, Pipeline
from tuneline.local.task_containers import ContainerOptions
from tuneline.local.task_run import PROGRESS, Job, Outcome, TaskRunner
from tuneline.progress import read_progress
from tuneline.registry import home
from tuneline.registry.files import write_json
from tuneline.templates import Json, Template, coerce, load

_POLL_SECONDS = 0.2
_AFTER_GRACE_SECONDS = 1.0
"""For killed processes to be collected; then the engine ends, whatever they do."""
_AFTER_GRACE_OF_CONTAINERS_SECONDS = 15.0
"""The same for containers, which another program has to end."""


def start_registered_endpoint(record: Mapping[str, object]) -> None:
    """Start the server of a deployment record, detached: it belongs to this machine, not to the run."""
    from tuneline.registry import endpoints

    endpoints.start(record)


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a run is done; nothing here changes its results."""

    grace_seconds: float = 25.0
    """How long tasks may save their work after Ctrl-C or SIGTERM."""
    caching: bool = True
    show_logs: bool = False
    """Whether the tasks' logs are shown line by line while they run."""
    max_parallel_tasks: int = 4
    start_endpoint: Callable[[Mapping[str, object]], object] = start_registered_endpoint
    containers: ContainerOptions | None = None
    """Run the tasks in containers; nothing: as processes of this machine. A resumed run takes only the limits from here."""


def run(
    template: Template,
    parameters: Mapping[str, object],
    *,
    runs_dir: Path,
    name: str | None = None,
    source: str = "",
    options: Options | None = None,
    display: Display | None = None,
) -> RunRecord:
    """Run a template to its end. A failed or stopped run is a record with that state; what cannot start at all raises.

    `source` is what the template was asked for by, and is only recorded.
    """
    pipeline = read_pipeline(template.spec)
    values = coerce(template, parameters)
    missing = [f"{key} has no default; give it a value." for key in pipeline.root.inputs if key not in values]
    if missing:
        raise ParameterError(*missing)
    options, display = options or Options(), display or Silence()
    settled = task_containers.begin(pipeline.dag, options.containers, display.say) if options.containers else None
    folder = RunFolder.create(runs_dir, name or f"{pipeline.name}-{datetime.now().astimezone():%Y%m%d%H%M%S}", exact=name is not None)
    with folder.locked() as lock:
        record = RunRecord(name=folder.name, pipeline=pipeline.name, template=source or template.name, parameters={}, create_time=now())
        texts = _run_values(folder, record, values)
        record.parameters = {key: value if key in parameters else filled(value, texts) for key, value in values.items()}
        folder.write_template(template.spec)
        record.containers = settled[1] if settled else None
        return _Engine(folder, record, pipeline, options, display, lock, frozenset(), settled[0] if settled else None).execute()


def resume(run_dir: Path, *, options: Options | None = None, display: Display | None = None) -> RunRecord:
    """Go on with a run that was stopped, killed or has failed. Tasks that have ended well are not run again."""
    folder, options, display = RunFolder(run_dir.absolute()), options or Options(), display or Silence()
    with folder.locked() as lock:
        record = folder.read()
        if record.state == RunState.SUCCEEDED:
            return record
        interrupted = frozenset(task.name for task in record.tasks.values() if task.state == TaskState.RUNNING)
        done = (TaskState.SUCCEEDED, TaskState.SKIPPED, TaskState.NOT_TRIGGERED)
        pipeline = read_pipeline(load(str(folder.template)).spec)
        record.tasks = {key: task if task.state in done else task.again() for key, task in record.tasks.items()}
        engine = None
        if record.containers is None and options.containers is not None:
            raise UserError(f"run {folder.name!r} was not begun in containers, so there is nothing to limit.", next_action="Leave the --container flags out.")
        if record.containers is not None:
            engine, record.containers = task_containers.go_on(record.containers, options.containers.limits if options.containers else Limits())
        folder.error.unlink(missing_ok=True)
        return _Engine(folder, record, pipeline, options, display, lock, interrupted, engine).execute()


@dataclass(frozen=True)
class _Finished:
    node: Node
    outcome: Outcome


class _Engine:
    def __init__(
        self, folder: RunFolder, record: RunRecord, pipeline: Pipeline, options: Options, display: Display, lock: int, interrupted: frozenset[str],
        container_engine: ContainerEngine | None,
    ) -> None:  # fmt: skip
        self.folder, self.record, self.options, self.display = folder, record, options, display
        self.interrupted = interrupted
        """Tasks that an earlier engine ran when it was killed."""
        self.processes = TaskProcesses(lock)
        cache = TaskCache(home() / "cache") if options.caching else None
        containers = None
        if container_engine is not None and record.containers is not None:
            containers = task_containers.open_containers(container_engine, record.containers, folder.path, record.parameters, options.grace_seconds)
        self.runner = TaskRunner(folder=folder, processes=self.processes, cache=cache, start_endpoint=options.start_endpoint, containers=containers)
        self.after_grace_seconds = _AFTER_GRACE_OF_CONTAINERS_SECONDS if containers else _AFTER_GRACE_SECONDS
        self.graph = Graph(pipeline, record.parameters, _run_values(folder, record, record.parameters), record.tasks)
        self.events: SimpleQueue[_Finished | signal.Signals] = SimpleQueue()
        self.logs = LogFollower(folder)
        self.running: dict[str, Node] = {}
        self.shown: dict[str, TaskState] = {}
        self.stopped_by: signal.Signals | None = None
        self.deadline = float("inf")

    def execute(self) -> RunRecord:
        """Run what is left; the record at the end is also in run.json."""
        self.record.state, self.record.error, self.record.end_time = RunState.RUNNING, None, ""
        self.record.start_time = self.record.start_time or now()
        self.display.say(f"{self.record.name} in {self.folder.path}")
        if self.runner.containers is not None:
            self.display.say(self.runner.containers.summary)
        try:
            with _signals_into(self.events):
                self._start_ready()
                while self.running and time.monotonic() < self.deadline:
                    self._wait()
                self._conclude()
        finally:
            self.processes.kill()
            self.display.close()
        return self.record

    def _start_ready(self) -> None:
        if self.stopped_by is None and not self._failed():
            ready = self.graph.advance()
            free = 0 if self._failed() else self.options.max_parallel_tasks - len(self.running)  # a condition may just have failed
            for node in ready[:free]:
                self._start(node)
        self._save()

    def _failed(self) -> bool:
        return any(task.state == TaskState.FAILED for task in self.record.tasks.values())

    def _start(self, node: Node) -> None:
        body = node.task.component.body
        job = Job(
            name=node.name,
            component=node.task.component,
            container=body if isinstance(body, Container) else Container(image="", command=(), environment={}),
            inputs=node.inputs,
            placeholders=self.graph.values_of(node),
            cacheable=node.task.cacheable,
            retry=node.task.retry,
            interrupted=node.name in self.interrupted,
        )
        node.record.state, node.record.start_time = TaskState.RUNNING, now()
        self.running[node.name] = node
        self.logs.start(node.name)
        # A daemon thread cannot keep the engine from ending when its time is over.
        threading.Thread(target=lambda: self.events.put(_Finished(node, self._outcome(job))), name=node.name, daemon=True).start()

    def _outcome(self, job: Job) -> Outcome:
        """Run a task; whatever goes wrong is its outcome."""
        log = str(self.folder.log(job.name))
        try:
            outcome = self.runner.run(job)
            publish_pages(self.folder, outcome.outputs)
            return outcome
        except Stopped:
            return Outcome(state=TaskState.CANCELLED)
        except TunelineError as error:
            return _failed(job.name, error, log)
        except OSError as error:  # the disk is full, or the run folder is gone
            return _failed(job.name, InfrastructureError(f"{job.name}: {error}.", next_action="Mend that, then go on with: --resume"), log)
        except Exception:  # a bug in one task's thread must end the run, not leave it waiting for ever
            cause = traceback.format_exc(limit=3)
            return Outcome(
                state=TaskState.FAILED,
                error=Failure(code=70, attribution="internal", step=job.name, cause=cause, next_action="This is a bug of Tuneline. Please report it.", log=log),
            )

    def _wait(self) -> None:
        """Take one event, or look at the progress of what runs."""
        try:
            event = self.events.get(timeout=max(0.0, min(_POLL_SECONDS, self.deadline - time.monotonic())))
        except Empty:
            for name in self.running:
                self._look_at(name)
            if self.stopped_by is not None and self.processes.is_idle:  # what is left are threads that read files or wait for an endpoint
                self.deadline = min(self.deadline, time.monotonic() + _AFTER_GRACE_SECONDS)
            return
        if isinstance(event, _Finished):
            self._finish(event.node, event.outcome)
            self._start_ready()
        else:
            self._stop(event)

    def _look_at(self, name: str) -> None:
        """Show what a running task has written since the last look."""
        for line in self.logs.lines(name) if self.options.show_logs else ():
            self.display.say(f"{name} | {line}")
        attempts = self.folder.attempts(name)
        try:
            progress = read_progress(attempts[-1] / PROGRESS) if attempts else None
        except (ValueError, TypeError):  # a file of this name that is not ours
            return
        if progress is not None:
            self.display.progressed(name, progress)

    def _finish(self, node: Node, outcome: Outcome) -> None:
        self._look_at(node.name)
        del self.running[node.name]
        record = node.record
        record.state, record.outputs, record.cached_from, record.error = outcome.state, outcome.outputs, outcome.cached_from, outcome.error
        record.end_time, record.attempts = now(), len(self.folder.attempts(node.name))

    def _stop(self, number: signal.Signals) -> None:
        """Pass the first signal on and give the tasks their grace; the second one ends them at once."""
        if self.stopped_by is None:
            self.stopped_by = number
            self.deadline = time.monotonic() + self.options.grace_seconds + self.after_grace_seconds
            self.display.say(f"Stopping. Tasks may save their work for {self.options.grace_seconds:g} s; once more ends them at once.")
            self.processes.stop(self.options.grace_seconds)
        else:
            self.deadline = min(self.deadline, time.monotonic() + self.after_grace_seconds)
            self.processes.kill()

    def _conclude(self) -> None:
        for node in self.graph.nodes():
            if node.record.state == TaskState.RUNNING:
                # A task with inner tasks failed with one of them; a command that still runs when the time is over was stopped.
                node.record.state = TaskState.FAILED if node.inside is not None and self._failed() else TaskState.CANCELLED
                node.record.end_time = now()
        states = {task.state for task in self.record.tasks.values()}
        if TaskState.FAILED in states:
            self.record.state = RunState.FAILED
            self.record.error = next(task.error for task in self.record.tasks.values() if task.error is not None)
            write_json(self.folder.error, self.record.error.to_json())
        elif TaskState.CANCELLED in states or TaskState.PENDING in states:
            self.record.state = RunState.CANCELLED
            self.record.error = self._interruption()
        else:
            self.record.state, self.record.outputs = RunState.SUCCEEDED, self.graph.outputs()
        self.record.end_time = now()
        self._save()

    def _interruption(self) -> Failure:
        code = 130 if self.stopped_by == signal.SIGINT else 75
        cause = f"Stopped by {'Ctrl-C' if code == 130 else self.stopped_by.name if self.stopped_by else 'an interrupted task'}."
        return Failure(code=code, attribution="user", step="", cause=cause, next_action=f"Go on with: tuneline run --resume {self.folder.path}")

    def _save(self) -> None:
        """Write the record first, then show what has changed: what was shown survives a crash."""
        try:
            self.folder.write(self.record)
        except OSError as error:  # the disk is full; the record of the last change is still whole
            raise InfrastructureError(f"{self.folder.path}: {error}.", next_action=f"Mend that, then: tuneline run --resume {self.folder.path}") from error
        for task in self.record.tasks.values():
            if self.shown.get(task.name, TaskState.PENDING) != task.state:
                self.shown[task.name] = task.state
                self.display.changed(replace(task))


def _failed(name: str, error: TunelineError, log: str) -> Outcome:
    failure = Failure(code=error.exit_code, attribution=error.attribution, step=name, cause=str(error), next_action=error.next_action, log=log)
    return Outcome(state=TaskState.FAILED, error=failure)


def _run_values(folder: RunFolder, record: RunRecord, parameters: Mapping[str, Json]) -> dict[str, str]:
    """The placeholders of the run. What only Google Cloud has is empty here, as it is there when a job does not set it."""
    project = str(parameters.get("project", "") or LOCATION)
    return {
        "pipeline_job_name": record.name,
        "pipeline_job_uuid": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{folder.path}#{record.create_time}")),
        "pipeline_job_resource_name": f"projects/{project}/locations/{LOCATION}/pipelineJobs/{record.name}",
        "pipeline_job_create_time_utc": record.create_time,
        "pipeline_job_schedule_time_utc": record.create_time,
        "pipeline_root": str(folder.path),
        "pipeline_google_cloud_location": LOCATION,
        "pipeline_google_cloud_project_id": project,
        "pipeline_service_account": "",
        "pipeline_network": "",
        "pipeline_persistent_resource_id": "",
        "pipeline_encryption_key_name": str(parameters.get("encryption_spec_key_name", "")),
    }


@contextmanager
def _signals_into(events: "SimpleQueue[_Finished | signal.Signals]") -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP arrive as events. In another thread than the first, signals stay with the program around us."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def arrived(number: int, _frame: FrameType | None) -> None:
        events.put(signal.Signals(number))  # SimpleQueue.put may be called from a signal handler

    numbers = [number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, arrived) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
