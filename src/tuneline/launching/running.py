"""A launch from its beginning, or from where an earlier launcher of the same task left it, to its end.

    place 0 -- no capacity --> place 1 -- no capacity --> ... -- no capacity --> CapacityError
       `--- any other failure --> that error

A launcher that is started again goes on with the newest job of its launch. Only a job that has failed for a reason that passes is followed by
another attempt, from place 0 on; it goes on from the checkpoints that are at the outputs.
"""

import logging
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Literal, Protocol

from tuneline.errors import CapacityError, InfrastructureError, Interrupted, TunelineError, UserError
from tuneline.launching.order import Order, Try
from tuneline.progress import Progress, ProgressFile
from tuneline.staging.job_folder import JobFolder
from tuneline.storage import Storage
from tuneline.vertex.backoff import Clock

LOG = logging.getLogger(__name__)

POLL_SECONDS = 20.0
STOP_SECONDS = 20.0
"""How long a launcher that was stopped waits for its job to stop: Kubernetes kills it after 30 seconds, the embedded engine after 25."""
STOP_POLL_SECONDS = 2.0
PATIENCE_SECONDS = 1800.0
"""How long the state of a job may be unknown, because the API fails, while the job itself goes on."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """A job as its platform sees it."""

    state: Literal["open", "succeeded", "failed", "stopped"]
    detail: str
    """In the platform's own words."""
    error: TunelineError | None = None
    """Why it failed or stopped, as far as the platform knows."""


class Platform(Protocol):
    """Something that runs jobs. Jobs are known by name."""

    def find(self, order: Order, job: Try) -> str | None:
        """The job's name, if it was started; empty when it may have been and nobody knows; nothing when it was not."""

    def start(self, order: Order, job: Try) -> str:
        """The job's name; starts it unless that has been done. CapacityError when the platform says so at once."""

    def look(self, name: str) -> Status: ...

    def stop(self, name: str) -> None: ...

    def links(self, name: str) -> list[str]:
        """Where people can look at the job."""

    def resources(self, name: str) -> str:
        """The content of `gcp_resources`; empty for a job that is none of Google's."""


@dataclass(kw_only=True)
class Launcher:
    """Carries out an order on a platform."""

    order: Order
    platform: Platform
    resources: Path
    """File that says which job it is, in the form of `gcp_resources`; written before waiting for the job."""
    progress: ProgressFile = field(default_factory=lambda: ProgressFile(None))
    storage: Storage = field(default_factory=Storage)
    clock: Clock = field(default_factory=Clock)

    def run(self) -> JobFolder:
        """The folder of the job that succeeded. Raises what it failed with."""
        job = Try()
        try:
            job = self._first()
            while True:
                try:
                    self._carry_out(job)
                except CapacityError as error:
                    if job.place + 1 == len(self.order.places):
                        raise
                    job = Try(attempt=job.attempt, place=job.place + 1)
                    place = self.order.places[job.place]
                    LOG.warning("no capacity: %s Falling back to %s in %s.", error, place.machine_type, place.region)
                else:
                    return self._folder(job)
        except (Interrupted, KeyboardInterrupt):
            try:
                self._stop(job)
            except (UserError, InfrastructureError) as error:
                LOG.warning("the job could not be stopped: %s", error)
            raise

    def _folder(self, job: Try) -> JobFolder:
        return JobFolder(uri=self.order.folder(job), storage=self.storage)

    def _first(self) -> Try:
        """The job to go on with, or the first that there was not."""
        newest, name = None, ""
        for attempt in count(1):
            found = {
                job: handle
                for job in (Try(attempt=attempt, place=place) for place in range(len(self.order.places)))
                if (handle := self.platform.find(self.order, job)) is not None
            }
            if not found:
                break
            newest, name = list(found.items())[-1]
        if newest is None or not name:
            return newest or Try()
        status = self.platform.look(name)
        error = self._error(newest, status)
        if status.state == "stopped" or (isinstance(error, InfrastructureError) and not isinstance(error, CapacityError)):
            LOG.info("job %s has ended: %s", name, error)
            return Try(attempt=newest.attempt + 1)
        if isinstance(error, CapacityError):
            last = newest.place + 1 == len(self.order.places)
            return Try(attempt=newest.attempt + 1) if last else Try(attempt=newest.attempt, place=newest.place + 1)
        return newest

    def _carry_out(self, job: Try) -> None:
        name = self.platform.start(self.order, job)
        for link in self.platform.links(name):
            LOG.info(link)
        self.resources.parent.mkdir(parents=True, exist_ok=True)
        self.resources.write_text(self.platform.resources(name), encoding="utf-8")
        if error := self._error(job, self._wait(job, name)):
            raise error

    def _error(self, job: Try, status: Status) -> TunelineError | None:
        """Why a job has failed: what the step told, or else what the platform knows."""
        if status.state in ("open", "succeeded"):
            return None
        told = self._folder(job).error() if status.state == "failed" else None
        if isinstance(told, Interrupted):
            return InfrastructureError(f"The job was stopped from outside: {told}", next_action="Try again: it goes on from its newest checkpoint.")
        return told or status.error or InfrastructureError(f"The job has ended: {status.detail}.")

    def _wait(self, job: Try, name: str) -> Status:
        detail, shown, known = "", None, self.clock.now()
        while True:
            try:
                status = self.platform.look(name)
            except InfrastructureError as error:  # also a CapacityError, which is then the API's and not the job's
                if self.clock.now() - known > PATIENCE_SECONDS:
                    raise InfrastructureError(f"The state of {name} is not to be had: {error}", next_action="Try again: the same job is waited for.") from error
                LOG.warning("the state of %s is not to be had: %s", name, error)
            else:
                known = self.clock.now()
                if status.detail != detail:
                    detail = status.detail
                    LOG.info("job %s is %s", name, detail)
                shown = self._show_progress(job, shown)
                if status.state != "open":
                    return status
            self.clock.sleep(POLL_SECONDS)

    def _show_progress(self, job: Try, shown: Progress | None) -> Progress | None:
        """Hand on what the job tells of itself."""
        try:
            progress = self._folder(job).progress()
        except (UserError, InfrastructureError) as error:
            LOG.warning("the job's progress is not to be had: %s", error)
            return shown
        if progress and progress != shown:
            self.progress.report(progress)
            LOG.info("%s %d/%d %s", progress.activity, progress.completed, progress.total, progress.message)
        return progress

    def _stop(self, job: Try) -> None:
        """Have the job stop, if there is one, and see that it does."""
        until = self.clock.now() + STOP_SECONDS
        while (name := self.platform.find(self.order, job)) == "" and self.clock.now() < until:  # it was asked for, and may show in a moment
            self.clock.sleep(STOP_POLL_SECONDS)
        if not name:
            if name == "":
                LOG.warning("a job of %s may have been started and cannot be found; see that it does not run for nothing", self.order.step)
            return
        LOG.info("stopping job %s", name)
        self.platform.stop(name)
        while self.clock.now() < until and self.platform.look(name).state == "open":
            self.clock.sleep(STOP_POLL_SECONDS)
