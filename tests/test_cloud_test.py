"""The commands that try a real project: each is one that exists, with flags that it has, and in the right order. Nothing is asked."""

import pytest

from scripts.cloud_test import Plan, main, steps
from tuneline.cli import main as tuneline

PLAN = Plan(project="p", bucket="gs://bucket", registry="us-central1-docker.pkg.dev/p/tuneline", has_gpu=True, deploys=True)


def commands(name: str) -> list[tuple[str, ...]]:
    return [step.command[1:] for step in steps(PLAN) if step.command[:2] == ("tuneline", name)]


def test_every_submission_is_a_request_that_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    submitted = commands("submit")
    assert len(submitted) == 7
    for command in submitted:
        assert tuneline([*command, "--dry-run"]) == 0, capsys.readouterr().err
        assert '"parameterValues"' in capsys.readouterr().out


def test_the_schedule_is_a_request_that_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    [command] = commands("schedule")
    assert tuneline([*command, "--dry-run"]) == 0, capsys.readouterr().err
    assert '"cron"' in capsys.readouterr().out


def test_all_other_commands_exist() -> None:
    assert {step.command[0] for step in steps(PLAN)} == {"gcloud", "tuneline"}
    assert [len(commands(name)) for name in ("doctor", "costs", "jobs")] == [1, 1, 1]


def test_a_dry_run_prints_them_all_and_runs_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--project", "p", "--bucket", "gs://bucket", "--registry", "r", "--dry-run"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len([line for line in printed if not line.startswith("#")]) == len(list(steps(Plan(project="p", bucket="gs://bucket", registry="r"))))
