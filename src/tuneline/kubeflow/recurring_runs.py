"""Recurring runs of Kubeflow Pipelines: create one, look at it, list them, disable, enable and delete them."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneline.cron import Cron
from tuneline.errors import UsageError
from tuneline.kubeflow.pipelines import Kubeflow, RunOptions, explained, run_request, sent_spec
from tuneline.remote_schedule import RemoteSchedule, ScheduleState, Timing
from tuneline.templates import Json, Template

_STATES: Mapping[str, ScheduleState] = {"ENABLED": "ACTIVE", "DISABLED": "PAUSED"}
_PAGE_SIZE = 100
MOST_CONCURRENT_RUNS = 10
"""Kubeflow's own limit."""


def timing_problems(timing: Timing) -> Iterator[str]:
    """What Vertex AI's schedules have and Kubeflow's have not, each with its flag. The cron expression is a right one."""
    if Cron.parse(timing.cron).has_zone:
        found = f"--cron: found {timing.cron!r}; Kubeflow has one time zone for all its schedules"
        yield f"{found}, UTC unless its controller's CRON_SCHEDULE_TIMEZONE says another. Leave the zone out and give the time there."
    if timing.max_runs:
        yield "--max-runs: Kubeflow counts no runs. Leave it out, or give --end-time."
    if timing.allow_queueing:
        yield "--allow-queueing: Kubeflow leaves out a run that is due while others run. Leave the flag out."
    if timing.max_concurrent_runs > MOST_CONCURRENT_RUNS:
        yield f"--max-concurrent-runs: found {timing.max_concurrent_runs}; Kubeflow allows at most {MOST_CONCURRENT_RUNS}."


def recurring_run_request(template: Template, values: Mapping[str, Json], options: RunOptions, timing: Timing) -> tuple[str, dict[str, Any]]:
    """Address and body of the request that creates the recurring run; the experiment's id is known to Kubeflow only."""
    url, run = run_request(template, values, options)
    times = {"start_time": timing.start_time, "end_time": timing.end_time}
    body = {
        **run,
        "mode": "ENABLE",
        "no_catchup": True,
        "max_concurrency": timing.max_concurrent_runs,
        "trigger": {"cron_schedule": {"cron": cron_of(timing), **{name: value for name, value in times.items() if value}}},
    }
    return f"{url.removesuffix('/runs')}/recurringruns", body


def cron_of(timing: Timing) -> str:
    """As Kubeflow writes it: with seconds before the five fields."""
    return f"0 {Cron.parse(timing.cron).fields}"


@dataclass(kw_only=True)
class RecurringRuns:
    """Those of one installation."""

    kubeflow: Kubeflow

    def create(self, template: Template, values: Mapping[str, Json], timing: Timing) -> RemoteSchedule:
        """Create one. Kubeflow has no name that would make this call repeatable, so it is made once."""
        given, client = self.kubeflow.options, self.kubeflow.client
        advice = f"The recurring run may have been created: look for {given.name!r} at {given.address}."
        with tempfile.TemporaryDirectory() as folder, explained(given.address, advice):
            package = Path(folder) / "pipeline.yaml"
            package.write_text(json.dumps(sent_spec(template, given)), encoding="utf-8")  # JSON is YAML
            experiment = client.create_experiment(name=given.experiment, namespace=given.namespace or None)
            made = client.create_recurring_run(
                experiment_id=experiment.experiment_id, job_name=given.name, cron_expression=cron_of(timing), max_concurrency=timing.max_concurrent_runs,
                start_time=timing.start_time or None, end_time=timing.end_time or None, no_catchup=True, params=dict(values),
                pipeline_package_path=str(package), pipeline_root=given.pipeline_root or None, enable_caching=None if given.has_caching else False,
                service_account=given.service_account or None,
            )  # fmt: skip
        return remote_schedule(made.to_dict())

    def look(self, run_id: str) -> RemoteSchedule:
        """The recurring run at this moment."""
        with explained(self.kubeflow.options.address):
            return remote_schedule(self.kubeflow.client.get_recurring_run(run_id).to_dict())

    def list(self) -> Iterator[RemoteSchedule]:
        """All, newest first."""
        options, token = self.kubeflow.options, ""
        while True:
            with explained(options.address):
                page = self.kubeflow.client.list_recurring_runs(
                    page_token=token, page_size=_PAGE_SIZE, sort_by="created_at desc", namespace=options.namespace or None
                )
            yield from (remote_schedule(run.to_dict()) for run in page.recurring_runs or ())
            token = page.next_page_token or ""
            if not token:
                return

    def pause(self, run_id: str) -> RemoteSchedule:
        """No run is due until it is resumed."""
        with explained(self.kubeflow.options.address):
            self.kubeflow.client.disable_recurring_run(run_id)
        return self.look(run_id)

    def resume(self, run_id: str, *, catch_up: bool = False) -> RemoteSchedule:
        """Runs are due again."""
        if catch_up:
            raise UsageError("--catch-up is for Vertex AI: a recurring run is created so that it does not catch up.", next_action="Leave out --catch-up.")
        with explained(self.kubeflow.options.address):
            self.kubeflow.client.enable_recurring_run(run_id)
        return self.look(run_id)

    def delete(self, run_id: str) -> None:
        """Delete it. Runs that it has made stay."""
        with explained(self.kubeflow.options.address):
            self.kubeflow.client.delete_recurring_run(run_id)


def remote_schedule(run: Mapping[str, Any]) -> RemoteSchedule:
    """What a recurring run says. When it is due next, Kubeflow does not tell."""
    trigger = (run.get("trigger") or {}).get("cron_schedule") or {}
    created = run.get("created_at")
    return RemoteSchedule(
        name=str(run["recurring_run_id"]),
        display_name=str(run.get("display_name") or ""),
        state=_STATES.get(str(run.get("status")), "UNKNOWN"),
        cron=str(trigger.get("cron") or ""),
        create_time=created.isoformat() if created else "",
    )
