"""Runs of Kubeflow Pipelines: create one, look at it. The client is kfp's, loaded when it is used; the token comes from the environment."""

import contextlib
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneline.errors import InfrastructureError, NotFoundError, UserError
from tuneline.remote_job import JobState, RemoteFailure, RemoteJob, RemoteTask, TaskState, exit_code_of
from tuneline.templates import Json, Template, with_caching_options

if TYPE_CHECKING:
    import kfp

TOKEN = "TUNELINE_KUBEFLOW_TOKEN"
TIMEOUT_SECONDS = 30.0
_API = "/apis/v2beta1"
_JOB_STATES: Mapping[str, JobState] = {
    "PENDING": "PENDING", "RUNNING": "RUNNING", "CANCELING": "CANCELLING", "SUCCEEDED": "SUCCEEDED", "SKIPPED": "SUCCEEDED", "FAILED": "FAILED",
    "CANCELED": "CANCELLED", "PAUSED": "PAUSED",
}  # fmt: skip
_TASK_STATES: Mapping[str, TaskState] = {
    "RUNNING": "RUNNING", "CANCELING": "RUNNING", "PAUSED": "RUNNING", "SUCCEEDED": "SUCCEEDED", "SKIPPED": "SKIPPED", "FAILED": "FAILED",
    "CANCELED": "CANCELLED",
}  # fmt: skip
LOG_IN = f"Set {TOKEN} to a token that this Kubeflow takes."


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a run is told beside its template's parameters. Empty: left to Kubeflow."""

    host: str
    """Address of Kubeflow Pipelines, like `https://kubeflow.example.com/pipeline`."""
    name: str
    experiment: str = "Default"
    namespace: str = ""
    """Of a multi-user installation."""
    pipeline_root: str = ""
    service_account: str = ""
    has_caching: bool = True

    @property
    def address(self) -> str:
        """Where requests go; kfp's client takes https where no scheme is given, too."""
        host = self.host.rstrip("/")
        return host if host.startswith(("http://", "https://")) else f"https://{host}"


def sent_spec(template: Template, options: RunOptions) -> dict[str, Any]:
    """The template's spec, changed as kfp's client would, but in all of its groups: a task without the option is run each time."""
    return dict(template.spec) if options.has_caching else with_caching_options(template.spec, {})


def run_request(template: Template, values: Mapping[str, Json], options: RunOptions) -> tuple[str, dict[str, Any]]:
    """Address and body of the request that creates the run; the experiment's id is known to Kubeflow only."""
    root = {"pipeline_root": options.pipeline_root} if options.pipeline_root else {}
    body: dict[str, Any] = {
        "experiment_id": f"ID OF {options.experiment!r}",
        "display_name": options.name,
        "pipeline_spec": sent_spec(template, options),
        "runtime_config": {"parameters": dict(values), **root},
        **({"service_account": options.service_account} if options.service_account else {}),
    }
    return f"{options.address}{_API}/runs", body


@dataclass(kw_only=True)
class Kubeflow:
    """One installation of Kubeflow Pipelines."""

    options: RunOptions
    client: "kfp.Client" = field(init=False)

    def __post_init__(self) -> None:
        with explained(self.options.address):
            self.client = _open(self.options)

    def create(self, template: Template, values: Mapping[str, Json]) -> RemoteJob:
        """Create the run. Kubeflow has no name that would make this call repeatable, so it is made once."""
        given = self.options
        with tempfile.TemporaryDirectory() as folder, explained(given.address, f"The run may have been created: look for {given.name!r} at {given.address}."):
            package = Path(folder) / "pipeline.yaml"
            package.write_text(json.dumps(sent_spec(template, given)), encoding="utf-8")  # JSON is YAML
            created = self.client.create_run_from_pipeline_package(
                str(package), arguments=dict(values), run_name=given.name, experiment_name=given.experiment, namespace=given.namespace or None,
                pipeline_root=given.pipeline_root or None, enable_caching=None if given.has_caching else False,
                service_account=given.service_account or None,
            )  # fmt: skip
        return remote_job(created.run_info.to_dict(), template, given.address)

    def look(self, run_id: str, template: Template) -> RemoteJob:
        """The run at this moment."""
        with explained(self.options.address):
            run = self.client.get_run(run_id).to_dict()
        return remote_job(run, template, self.options.address)


def remote_job(run: Mapping[str, Any], template: Template, address: str) -> RemoteJob:
    """What a run says. Its drivers and executors are left out: what is left has the names of the template's tasks."""
    root = template.spec["root"]
    dag = root.get("dag") if isinstance(root, dict) else None
    known = dag.get("tasks") if isinstance(dag, dict) else None
    details = [detail for detail in (run.get("run_details") or {}).get("task_details") or [] if isinstance(known, dict) and detail["display_name"] in known]
    state = _JOB_STATES.get(str(run.get("state")), "UNKNOWN")
    return RemoteJob(
        name=str(run["run_id"]),
        display_name=str(run.get("display_name") or ""),
        state=state,
        url=f"{address}/#/runs/details/{run['run_id']}",
        create_time=_time(run.get("created_at")),
        start_time=_time(run.get("created_at")),
        end_time=_time(run.get("finished_at")) if state in ("SUCCEEDED", "FAILED", "CANCELLED") else "",
        tasks=tuple(
            RemoteTask(
                name=str(detail["display_name"]),
                state=_TASK_STATES.get(str(detail.get("state")), "PENDING"),
                start_time=_time(detail.get("start_time")),
                end_time=_time(detail.get("end_time")),
            )
            for detail in details
        ),
        failure=_failure(run, details) if state == "FAILED" else None,
    )


def _failure(run: Mapping[str, Any], details: list[dict[str, Any]]) -> RemoteFailure:
    failed = next((detail for detail in details if detail.get("state") == "FAILED"), {})
    error = failed.get("error") or run.get("error") or {}
    cause = str(error.get("message") or "The run failed.")
    step = str(failed.get("display_name") or "")
    advice = f"The log of {step} tells more." if step else "The page of the run tells more."
    return RemoteFailure(step=step, cause=cause, next_action=advice, code=exit_code_of(int(error.get("code") or 13), cause))


def _time(moment: Any) -> str:
    """RFC 3339; Kubeflow writes the year 1970 for what has not happened yet."""
    return moment.isoformat() if moment is not None and moment.year > 1970 else ""


def _open(options: RunOptions) -> "kfp.Client":
    try:
        import kfp
        import requests
    except ModuleNotFoundError as error:
        raise UserError(f"Kubeflow needs the package {error.name}, which is not installed.", next_action="pip install 'tuneline[kfp]'") from None
    token = os.environ.get(TOKEN, "")
    # Asked before the client, which tells a wrong address by five tracebacks in half a minute.
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = requests.get(f"{options.address}{_API}/healthz", headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False)
    if answer.status_code != 200:
        raise _refused(options.address, answer.status_code, answer.text, "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kfp.Client(host=options.address, namespace=options.namespace or "kubeflow", existing_token=token or None)


@contextlib.contextmanager
def explained(address: str, advice: str = "") -> Iterator[None]:
    """Turn what the client raises into errors that say what to do. What it prints goes to standard error: standard output is ours."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except ValueError as error:  # kfp's own way to refuse, like two experiments of one name
        raise UserError(f"{address}: {error}") from error
    except Exception as error:
        module = type(error).__module__.partition(".")[0]
        if module == "kfp_server_api":
            raise _refused(address, int(getattr(error, "status", 0) or 0), str(getattr(error, "body", "") or error), advice) from error
        if module in ("urllib3", "requests") or isinstance(error, OSError):
            raise InfrastructureError(f"{address}: {type(error).__name__}: {error}", next_action=advice) from error
        raise


def _refused(address: str, status: int, text: str, advice: str) -> UserError | InfrastructureError:
    try:
        body = json.loads(text)
        message = str(body.get("message") or body.get("error") or body)
    except (ValueError, AttributeError):
        message = " ".join(text.split())[:200]
    told = f"{address}: {status or 'no status'}: {message}"
    if status in (301, 302, 303, 307, 308, 401, 403):  # a gateway sends those who are not known to its page for logging in
        return UserError(told, next_action=LOG_IN)
    if status == 404:
        return NotFoundError(told, next_action="Give the address of Kubeflow Pipelines itself, like https://HOST/pipeline.")
    return UserError(told) if 400 <= status < 500 and status not in (408, 429) else InfrastructureError(told, next_action=advice)
