"""The queue of pipeline jobs, in the store: which jobs wait, which have begun, and what is written down when one has changed.

A waiting job is its row, and nothing else; so making one, or cancelling it, is one transaction. Before a job gets a process it is written
down as PENDING: whatever moment the service is killed at, a job that waits has no process, and one that may have a process is known.
"""

from collections.abc import Callable
from typing import Any

import orjson

from tuneline.api.filters import Condition
from tuneline.api.jobs import JobFolders, JobState, Look
from tuneline.api.resources import tuning_job_view
from tuneline.api.resources.pipeline_job_view import BEGUN_STATES, KIND, ORDER, PENDING, PRIVATE, QUEUED, RUNNING, progressed
from tuneline.api.store import Body, Query, Store


class JobQueue:
    """What the runner needs to know, by the names of the jobs' runs."""

    def __init__(self, store: Store, jobs: JobFolders, *, publish: Callable[[Body, Look], None]) -> None:
        """`publish` is called with an ended job before it is known to have ended."""
        self._store, self._jobs, self._publish = store, jobs, publish

    def begun(self) -> list[str]:
        """The jobs that may have a process, oldest first."""
        return [_run(body) for body in self._store.in_states(KIND, *BEGUN_STATES)]

    def waiting(self, limit: int) -> list[str]:
        """The next jobs that have none."""
        return [_run(body) for body in self._store.in_states(KIND, QUEUED, limit=limit)]

    def begin(self, run: str) -> bool:
        """Note that the job is about to have a process, and write its folder; false when it was cancelled meanwhile."""
        with self._store.transaction():
            body = self._named(run)
            if body["state"] not in (QUEUED, PENDING, RUNNING):
                return False
            write_down(self._store, body["name"], Look(state=JobState.PENDING))
        spec: dict[str, Any] = orjson.loads(self._store.document(body[PRIVATE]["spec"]))
        self._jobs.create(run, body.get(ORDER, {}), spec)  # earlier releases wrote the folder when the job was made, and no order
        return True

    def changed(self, run: str, look: Look) -> None:
        """Write down what a look at the job tells."""
        body = self._named(run)
        if look.state.has_ended:
            self._publish(body, look)
        if (body["state"], look.state) != (QUEUED, JobState.PENDING):  # it waits
            write_down(self._store, body["name"], look)

    def _named(self, run: str) -> Body:
        query = Query(kind=KIND, parent="*", condition=named(run))
        return self._store.page(query, limit=1)[0]


def named(run: str) -> Condition:
    """The pipeline job with this run."""
    return Condition("json_extract(body, '$._tuneline.run') = ?", (run,))


def write_down(store: Store, name: str, look: Look) -> Body:
    """Bring a pipeline job, and the tuning job that it works for, up to date; the pipeline job."""
    with store.transaction():
        body = store.update(name, lambda body: progressed(body, look))
        tuning_job_view.follow(store, body, look)
        return body


def _run(body: Body) -> str:
    return str(body[PRIVATE]["run"])
