"""When a schedule's runs are due: what is refused before anything is sent."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tuneline.cli.schedule_timing import timing_problems
from tuneline.remote_schedule import RemoteSchedule, Timing

GOOD = Timing(cron="TZ=Europe/Berlin 0 3 * * 1")
NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cron": "weekly"}, "--cron: found 'weekly'; expected five fields such as '0 3 * * 1'"),
        ({"cron": "0 3 * * 1 2026"}, "--cron: found '0 3 * * 1 2026'"),
        ({"cron": "61 * * * *"}, "--cron: found '61 * * * *'"),
        ({"cron": "TZ=Mars/Base 0 3 * * 1"}, "--cron: found the time zone 'Mars/Base'"),
        ({"max_concurrent_runs": 0}, "--max-concurrent-runs: found 0; expected 1 to 2147483647."),
        ({"max_runs": 10**20}, "--max-runs: found 100000000000000000000; expected 1 to 2147483647, or 0 for any number."),
        ({"end_time": "2026-11-21T03:00:00Z"}, "--end-time: found 2026-11-21T03:00:00Z; no run would be due before."),
        ({"start_time": "2026-11-24T00:00:00Z", "end_time": "2026-11-29T00:00:00Z"}, "--end-time: found 2026-11-29T00:00:00Z; no run would be due before."),
        ({"start_time": "tomorrow"}, "--start-time: found 'tomorrow'; expected a time with its zone"),
        ({"end_time": "2026-11-24T03:00:00"}, "--end-time: found '2026-11-24T03:00:00'; expected a time with its zone"),
        ({"start_time": "2026-11-24T03:00:00Z", "end_time": "2026-11-24T04:00:00+01:00"}, "--end-time: found 2026-11-24T04:00:00+01:00; expected a time after"),
    ],
    ids=str,
)
def test_a_wrong_time_is_refused_by_its_flag(changes: dict[str, Any], told: str) -> None:
    [problem] = timing_problems(replace(GOOD, **changes), NOW)
    assert problem.startswith(told)


def test_all_problems_are_found_at_once() -> None:
    wrong = Timing(cron="", max_concurrent_runs=0, max_runs=-1, start_time="x", end_time="y")
    assert [problem.partition(":")[0] for problem in timing_problems(wrong, NOW)] == [
        "--cron", "--max-concurrent-runs", "--max-runs", "--start-time", "--end-time",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changes", [{}, {"cron": "*/5 * * * *"}, {"max_runs": 3}, {"start_time": "2026-11-24T03:00:00Z", "end_time": "2026-11-30T03:30:00+01:00"}], ids=str
)
def test_good_times_are_taken(changes: dict[str, Any]) -> None:
    assert list(timing_problems(replace(GOOD, **changes), NOW)) == []


def test_a_program_finds_the_name_under_schedule() -> None:
    told = RemoteSchedule(name="s", display_name="d", state="ACTIVE", cron="* * * * *").to_json()
    assert (told["schedule"], "name" in told) == ("s", False)
