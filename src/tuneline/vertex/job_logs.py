"""What the tasks of a job have written, in Cloud Logging: the filter, the page of the console, the lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tuneline.errors import NotFoundError, did_you_mean
from tuneline.vertex.google_apis import GoogleApis
from tuneline.vertex.pipeline_jobs import task_details
from tuneline.vertex.rest import Json

PAGE_SIZE = 1000
_JOBS_OF_A_TASK = (("containerDetail", "mainJob"), ("containerDetail", "preCachingCheckJob"), ("customJobDetail", "job"))


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One entry."""

    time: str
    severity: str
    task: str
    """Empty for what Vertex AI itself says about the job."""
    text: str


def log_filter(job: Mapping[str, Any], task: str = "") -> str:
    """The filter for all tasks of a job, or for one. Raises NotFoundError."""
    custom_jobs = _custom_jobs(job)
    if task and task not in custom_jobs.values():
        require_task(job, task)
        raise NotFoundError(f"Task {task} has not started anything that writes a log.")
    numbers = " OR ".join(f'"{number}"' for number, name in custom_jobs.items() if not task or name == task)
    parts = [f'(resource.type="ml_job" AND resource.labels.job_id=({numbers}))'] if numbers else []
    if not task:
        parts.append(f'(resource.type="aiplatform.googleapis.com/PipelineJob" AND resource.labels.pipeline_job_id="{str(job["name"]).rpartition("/")[2]}")')
    return f'timestamp>="{job.get("createTime", "")}" AND ({" OR ".join(parts)})'


def require_task(job: Mapping[str, Any], task: str) -> None:
    """Raise NotFoundError for a task that the job does not have."""
    names = [str(detail.get("taskName")) for detail in task_details(job)]
    if task not in names:
        raise NotFoundError(f"The job has no task {task!r}.{did_you_mean(task, names)}", next_action=f"Its tasks: {', '.join(names)}.")


def log_url(project: str, condition: str) -> str:
    """The page of the console that shows the entries."""
    return f"https://console.cloud.google.com/logs/query;query={quote(condition, safe='')}?project={quote(project, safe='')}"


def read_log(apis: GoogleApis, job: Mapping[str, Any], condition: str, *, limit: int) -> list[LogLine]:
    """The newest `limit` entries, oldest first."""
    project = str(job["name"]).split("/")[1]
    custom_jobs = _custom_jobs(job)
    lines: list[LogLine] = []
    token = ""
    while len(lines) < limit:
        body = {"resourceNames": [f"projects/{project}"], "filter": condition, "orderBy": "timestamp desc", "pageSize": min(PAGE_SIZE, limit - len(lines))}
        page = apis.post("logging", "entries:list", {**body, **({"pageToken": token} if token else {})})
        lines += [_line(entry, custom_jobs) for entry in page.get("entries", [])]
        token = str(page.get("nextPageToken", ""))
        if not token:
            break
    return lines[:limit][::-1]


def _custom_jobs(job: Mapping[str, Any]) -> dict[str, str]:
    """Number of each custom job that carries out a task -> the task."""
    found = {}
    for task in task_details(job):
        detail: Json = task.get("executorDetail", {})
        for kind, key in _JOBS_OF_A_TASK:
            if name := str(detail.get(kind, {}).get(key, "")):
                found[name.rpartition("/")[2]] = str(task.get("taskName"))
    return found


def _line(entry: Mapping[str, Any], custom_jobs: Mapping[str, str]) -> LogLine:
    payload: Json = entry.get("jsonPayload", {})
    text = entry.get("textPayload") or payload.get("message") or payload
    number = str(entry.get("resource", {}).get("labels", {}).get("job_id", ""))
    task, text = custom_jobs.get(number, ""), str(text).rstrip("\n")
    return LogLine(time=str(entry.get("timestamp", "")), severity=str(entry.get("severity", "")), task=task, text=text)


def shown(lines: Sequence[LogLine]) -> list[str]:
    """The lines for people: time, task, text."""
    return [f"{line.time[:19].replace('T', ' ')}  {line.task or '-':<20}  {line.text}" for line in lines]
