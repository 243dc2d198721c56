"""Makes schedules fire: each due time makes one pipeline job, also when the service is killed and started again in between.

The id of a run's job follows from the schedule and the due time, so the same run cannot be created twice. Due times that passed while
the service was down, or the schedule paused, are skipped, unless the schedule catches up.
"""

import logging
import threading
from datetime import UTC, datetime

from tuneline.api.faults import Fault
from tuneline.api.resources import pipeline_jobs, schedules
from tuneline.api.resources.pipeline_job_view import KIND, OPEN_STATES
from tuneline.api.service import Service
from tuneline.api.store import Body
from tuneline.api.wire import parse
from tuneline.errors import TunelineError

LOG = logging.getLogger(__name__)
CHECK_SECONDS = 1.0


class Scheduler:
    """The thread that looks at the clock."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="scheduler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stopped.wait(CHECK_SECONDS):
            try:
                self.advance(datetime.now(UTC))
            except Exception:  # one odd schedule must not stop all others for ever
                LOG.exception("the scheduler stumbled; it goes on")

    def advance(self, moment: datetime) -> None:
        """Fire what is due at `moment`."""
        for body in self._service.store.in_states(schedules.KIND, "ACTIVE"):
            if _has_ended(body, moment):
                self._service.store.update(body["name"], lambda found: {**{k: v for k, v in found.items() if k != "nextRunTime"}, "state": "COMPLETED"})
            elif datetime.fromisoformat(body["nextRunTime"]) <= moment:
                self._fire(body, moment)

    def _fire(self, body: Body, moment: datetime) -> None:
        due = datetime.fromisoformat(body["nextRunTime"])
        response, started = self._run(body, due)

        def change(found: Body) -> Body | None:
            if found["state"] != "ACTIVE" or found.get("nextRunTime") != body["nextRunTime"]:
                return None  # paused or changed meanwhile
            following = schedules.next_run_time(found, due if found.get("catchUp") else max(due, moment))
            count = str(int(found["startedRunCount"]) + started)
            last = {"scheduledRunTime": schedules.stamp(due), "runResponse": response}
            return {**found, "nextRunTime": following, "startedRunCount": count, "lastScheduledRunResponse": last}

        self._service.store.update(body["name"], change)

    def _run(self, body: Body, due: datetime) -> tuple[str, bool]:
        """Create the job of one due time: what came of it, and whether it counts as started."""
        parent, _, schedule_id = body["name"].partition(f"/{schedules.KIND}/")
        job_id = f"schedule-{schedule_id}-{due:%Y%m%d%H%M%S}"
        if self._service.store.find(f"{parent}/{KIND}/{job_id}") is not None:
            return f"{parent}/{KIND}/{job_id}", True  # created before the service was killed
        limit = int(body.get("maxConcurrentActiveRunCount") or body["maxConcurrentRunCount"])
        open_runs = [job for job in self._service.store.in_states(KIND, *OPEN_STATES) if job.get("scheduleName") == body["name"]]
        if len(open_runs) >= limit and not body.get("allowQueueing"):
            return f"Skipped: {len(open_runs)} of at most {limit} runs have not ended.", False
        try:
            job = parse(pipeline_jobs.PipelineJob, {**body[schedules.REQUEST]["pipelineJob"], "scheduleName": body["name"]})
            return str(pipeline_jobs.create_job(self._service, parent, job, job_id)["name"]), True
        except (Fault, TunelineError) as error:
            LOG.warning("schedule=%s refused: %s", body["name"], error)
            return f"Refused: {error}", False


def _has_ended(body: Body, moment: datetime) -> bool:
    is_over = "endTime" in body and datetime.fromisoformat(body["endTime"]) <= moment
    return is_over or ("maxRunCount" in body and int(body["startedRunCount"]) >= int(body["maxRunCount"]))
