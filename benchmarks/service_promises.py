"""What `benchmarks.service_kills` checks: every answered job is there, ran once and has ended; nothing else is there."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from benchmarks.service_process import ServiceProcess
from tuneline.api.jobs import OUTCOME

SUCCEEDED, FAILED, CANCELLED = (f"PIPELINE_STATE_{state}" for state in ("SUCCEEDED", "FAILED", "CANCELLED"))


@dataclass(kw_only=True)
class Wish:
    """A job, as its client knows it."""

    name: str
    labels: Mapping[str, str]
    fails: bool
    seconds: float
    is_answered: bool = False
    is_cancel_sent: bool = False
    is_cancelled: bool = False


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What there is after all."""

    wishes: Sequence[Wish]
    tuning: Sequence[str]
    """Names of the pipeline jobs of real tuning jobs."""
    interrupted: Mapping[str, int]
    """Runs whose process was killed, and how often."""
    odd: Sequence[str]
    """Answers that no client should get."""
    jobs: Sequence[Mapping[str, Any]]
    tuning_jobs: Sequence[Mapping[str, Any]]
    models: Sequence[Mapping[str, Any]]
    ledgers: Mapping[str, Sequence[str]]
    """What the tasks of a job have written down: begin or end, task, time."""
    runs: Mapping[str, Mapping[str, Any]]
    """Content of each run.json."""
    outcomes: Mapping[str, bool]
    """Folders of the service's jobs, and whether they have an outcome."""
    living: Sequence[str]
    orphans: int
    """Rows in the store that belong to no resource."""
    errors: Sequence[str] = field(default=())
    """Lines of the service's log that tell of an error."""

    @classmethod
    def gather(cls, service: ServiceProcess, wishes: Sequence[Wish], tuning: Sequence[str], interrupted: Mapping[str, int], odd: Sequence[str]) -> "Evidence":
        """Ask the service, and look at its files."""
        log = service.log.read_text(encoding="utf-8").splitlines()
        return cls(
            wishes=wishes,
            tuning=tuning,
            interrupted=interrupted,
            odd=odd,
            jobs=service.listed("pipelineJobs"),
            tuning_jobs=service.listed("tuningJobs"),
            models=service.listed("models", pageSize=1000),
            ledgers={file.name: file.read_text(encoding="utf-8").splitlines() for file in (service.home / "ledger").iterdir()},
            runs={folder.name: json.loads((folder / "run.json").read_text(encoding="utf-8")) for folder in service.runs.iterdir()},
            outcomes={folder.name: (folder / OUTCOME).exists() for folder in service.jobs.iterdir()},
            living=[run for run, process in service.processes().items() if not process.has_ended_within(10)],
            orphans=service.stored("SELECT count(*) FROM large_fields WHERE name NOT IN (SELECT name FROM resources)")[0][0],
            errors=[line for line in log if " ERROR " in line or line.startswith("Traceback")],
        )

    def counts(self, max_running: int) -> dict[str, int | str]:
        """The figures of the table."""
        states = Counter(_state(job).lower() for job in self.jobs)
        unanswered = [wish for wish in self.wishes if not wish.is_answered]
        there = {_id(job) for job in self.jobs}
        return {
            "jobs whose creation was answered": sum(wish.is_answered for wish in self.wishes) + len(self.tuning),
            "creations without an answer": len(unanswered),
            "of these, jobs that are there": sum(wish.name in there for wish in unanswered),
            **{f"jobs {state}": number for state, number in sorted(states.items())},
            "cancellations that were answered": sum(wish.is_cancelled for wish in self.wishes),
            "tasks that ran": sum(line.startswith("begin") for lines in self.ledgers.values() for line in lines),
            "models registered": len(self.models),
            "jobs that were killed themselves, and went on": len(self.interrupted),
            "most jobs at once": f"{most_at_once(self)} of {max_running}",
        }


def broken_promises(found: Evidence, max_running: int) -> list[str]:
    """Everything that is not as it was promised."""
    return [*_of_jobs(found), *_of_runs(found), *_of_what_lies_about(found), *_of_limits(found, max_running), *(f"odd answer: {line}" for line in found.odd)]


def most_at_once(found: Evidence) -> int:
    """The largest number of jobs that had a task at one moment; a task that was cancelled ends with its job."""
    ends = {_id(job): datetime.fromisoformat(job["endTime"]).timestamp() for job in found.jobs if "endTime" in job}
    changes: list[tuple[float, int]] = []
    for name, lines in found.ledgers.items():
        times = [float(line.rpartition(" ")[2]) for line in lines]
        end = times[-1] if lines[-1].startswith("end") else ends[name]
        changes += [(times[0], 1), (max(times[-1], end), -1)]
    running = most = 0
    for _, change in sorted(changes):  # of two at one moment, the end comes first
        running += change
        most = max(most, running)
    return most


def _of_jobs(found: Evidence) -> Iterator[str]:
    jobs = {_id(job): job for job in found.jobs}
    if len(jobs) != len(found.jobs):
        yield f"{len(found.jobs) - len(jobs)} jobs are listed twice."
    known = {wish.name for wish in found.wishes} | set(found.tuning)
    yield from (f"{name}: nobody asked for it." for name in jobs.keys() - known)
    yield from (f"{name}: has not ended, but is {job['state']}." for name, job in jobs.items() if job["state"] not in (SUCCEEDED, FAILED, CANCELLED))
    for wish in found.wishes:
        job = jobs.get(wish.name)
        if job is None:
            if wish.is_answered:
                yield f"{wish.name}: its creation was answered, and it is not there."
            continue
        expected = {FAILED if wish.fails else SUCCEEDED, *([CANCELLED] if wish.is_cancel_sent else [])}
        if job["state"] not in expected:
            yield f"{wish.name}: ended in {job['state']}; expected {' or '.join(sorted(expected))}. {job.get('error')}"
    for name in found.tuning:
        if jobs[name]["state"] != SUCCEEDED:
            yield f"{name}: a real tuning job, ended in {jobs[name]['state']}. {jobs[name].get('error')}"
    pairs = {str(job["pipelineJob"]): _state(job) for job in found.tuning_jobs}
    own = {str(job["name"]): _state(job) for name, job in jobs.items() if name.startswith("tuning-job-")}
    if pairs != own:
        yield f"tuning jobs and their pipeline jobs differ: {pairs}, {own}."


def _of_runs(found: Evidence) -> Iterator[str]:
    """Each ran once. A job whose own process was killed may begin a task again, once for each kill."""
    fails = {wish.name for wish in found.wishes if wish.fails}
    versions = Counter(model["displayName"] for model in found.models)
    for job in found.jobs:
        name, again = _id(job), found.interrupted.get(_id(job), 0)
        written = Counter(line.rpartition(" ")[0] for line in found.ledgers.get(name, ()))
        if job["state"] != CANCELLED and name not in found.tuning:
            tasks = ("work",) if name in fails else ("work", "register")
            expected = {f"{what} {task}" for task in tasks for what in ("begin", "end")}
            if written.keys() != expected:
                yield f"{name}: its tasks wrote down {sorted(written)}; expected {sorted(expected)}."
        yield from (f"{name}: {number} times {what!r}." for what, number in written.items() if number > 1 + again)
        tasks_of_run = found.runs[name]["taskDetails"] if name in found.runs else []
        yield from (f"{name}: {task['taskName']} was tried {task['attempts']} times." for task in tasks_of_run if task["attempts"] > 1 + again)
        made = 1 if name in found.tuning else versions[name]
        if made > 1 or (job["state"] == SUCCEEDED and made != 1):
            yield f"{name}: {made} models."
    labelled = {wish.name: wish.labels for wish in found.wishes}
    for model in found.models:
        if model["versionId"] != "1" or not dict(labelled.get(model["displayName"], {})).items() <= model["labels"].items():
            yield f"{model['name']}: version {model['versionId']}, labels {model['labels']}."
    if len(found.models) != sum(versions[_id(job)] for job in found.jobs) + len(found.tuning):
        yield f"{len(found.models)} models, some of which no job made."


def _of_what_lies_about(found: Evidence) -> Iterator[str]:
    jobs = {_id(job) for job in found.jobs}
    yield from (f"jobs/{name}: a folder without a job." for name in found.outcomes.keys() - jobs)
    yield from (f"jobs/{name}: has begun and has no outcome." for name, has_ended in found.outcomes.items() if not has_ended)
    yield from (f"runs/{name}: a run without a job." for name in found.runs.keys() - jobs)
    yield from (f"ledger/{name}: tasks without a job." for name in found.ledgers.keys() - jobs)
    yield from (f"{name}: its process still lives." for name in found.living)
    if found.orphans:
        yield f"{found.orphans} rows in the store belong to no resource."
    yield from (f"the service's log: {line}" for line in found.errors)


def _of_limits(found: Evidence, max_running: int) -> Iterator[str]:
    most = most_at_once(found)
    if most > max_running:
        yield f"{most} jobs ran at once; expected at most {max_running}."


def _id(job: Mapping[str, Any]) -> str:
    return str(job["name"]).rpartition("/")[2]


def _state(job: Mapping[str, Any]) -> str:
    return str(job["state"]).partition("STATE_")[2]
