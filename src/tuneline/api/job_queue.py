"""The queue of one kind of jobs, in the store: which wait, which have begun, and what is written down when one has changed.

A waiting job is its row, and nothing else; so making one, or cancelling it, is one transaction. Before a job gets a process it is written
down as PENDING: whatever moment the service is killed at, a job that waits has no process, and one that may have a process is known.
"""

from collections.abc import Callable
from typing import Any

import orjson

from tuneline.api.filters import Condition
from tuneline.api.jobs import JobFolders, JobState, Look
from tuneline.api.resources.pipeline_job_view import ORDER, PRIVATE
from tuneline.api.store import Body, Query, Store

QUEUED = "QUEUED"
"""State of a job that waits; the others are those of `JobState`."""
_BEGUN = (JobState.PENDING, JobState.RUNNING, JobState.CANCELLING)
_STALE = {QUEUED: (JobState.PENDING,), JobState.CANCELLING: (JobState.PENDING, JobState.RUNNING)}
"""What a look may show that the store knows better."""


class JobQueue:
    """What the runner needs to know, by the names of the jobs' runs."""

    def __init__(
        self,
        store: Store,
        jobs: JobFolders,
        *,
        kind: str,
        prefix: str,
        write_down: Callable[[str, Look], Body],
        publish: Callable[[Body, Look], None] = lambda _body, _look: None,
    ) -> None:
        """`prefix` is that of the kind's states. `write_down` brings the job of this name up to date; `publish` is called before an ended one is."""
        self._store, self._jobs, self._kind, self._prefix = store, jobs, kind, prefix
        self._write_down, self._publish = write_down, publish

    def begun(self) -> list[str]:
        """The jobs that may have a process, oldest first."""
        return [_run(body) for body in self._store.in_states(self._kind, *(f"{self._prefix}{state}" for state in _BEGUN))]

    def waiting(self, limit: int) -> list[str]:
        """The next jobs that have none."""
        return [_run(body) for body in self._store.in_states(self._kind, f"{self._prefix}{QUEUED}", limit=limit)]

    def begin(self, run: str) -> bool:
        """Note that the job is about to have a process, and write its folder; false when it was cancelled meanwhile."""
        with self._store.transaction():
            body = self._named(run)
            if self._state(body) not in (QUEUED, JobState.PENDING, JobState.RUNNING):
                return False
            self._write_down(body["name"], Look(state=JobState.PENDING))
        order: dict[str, Any] = dict(body.get(ORDER, {}))  # earlier releases wrote the folder when the job was made, and no order
        template = order.pop("template", None) or orjson.loads(self._store.document(body[PRIVATE]["spec"]))
        self._jobs.create(run, order, template)
        return True

    def changed(self, run: str, look: Look) -> None:
        """Write down what a look at the job tells, unless the job was cancelled after the look, or still waits."""
        if look.state.has_ended:
            self._publish(self._named(run), look)
        with self._store.transaction():
            body = self._named(run)
            if look.state not in _STALE.get(self._state(body), ()):
                self._write_down(body["name"], look)

    def cancel(self, name: str) -> None:
        """Ask the job of this name to end. One that waits ends at once; an ended one stays as it is, as on Vertex."""
        with self._store.transaction():
            body = self._store.get(name)
            if self._state(body) == QUEUED:
                self._write_down(name, Look(state=JobState.CANCELLED))
        if self._state(body) in _BEGUN:
            self._jobs.cancel(_run(body))  # the mark first: what is on disk is not forgotten
            self._write_down(name, Look(state=JobState.CANCELLING))

    def _named(self, run: str) -> Body:
        return self._store.page(Query(kind=self._kind, parent="*", condition=named(run)), limit=1)[0]

    def _state(self, body: Body) -> str:
        return str(body["state"]).removeprefix(self._prefix)


def named(run: str) -> Condition:
    """The job with this run."""
    return Condition("json_extract(body, '$._tuneline.run') = ?", (run,))


def _run(body: Body) -> str:
    return str(body[PRIVATE]["run"])
