"""A launch on a platform that does as it is told: waiting, falling back, going on, stopping."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.launching.orders import ORDER, PLACES
from tests.vertex.stub_api import FakeTime
from tuneline import steps
from tuneline.errors import CapacityError, InfrastructureError, Interrupted, TunelineError, UserError
from tuneline.launching.order import Order, Try
from tuneline.launching.running import Launcher, Status
from tuneline.progress import Progress, ProgressFile, read_progress
from tuneline.staging.job_folder import JobFolder

OPEN, DONE = Status(state="open", detail="RUNNING"), Status(state="succeeded", detail="SUCCEEDED")
FULL = Status(state="failed", detail="FAILED", error=CapacityError("stockout"))
LOST = Status(state="failed", detail="FAILED", error=InfrastructureError("lost"))
WRONG = Status(state="failed", detail="FAILED", error=UserError("no such image"))
CANCELLED = Status(state="stopped", detail="CANCELLED", error=UserError("was cancelled"))


@dataclass
class FakePlatform:
    """Each job goes through the states that are written for it, and stays in the last one."""

    states: dict[str, list[Status]]
    started: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    refusals: dict[str, TunelineError] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    """Jobs of which it is not known whether they were started."""
    at_look: Callable[[str], None] = lambda _name: None

    def find(self, order: Order, job: Try) -> str | None:
        assert order is ORDER
        return "" if job.name in self.unknown else job.name if job.name in self.started else None

    def start(self, _order: Order, job: Try) -> str:
        if job.name in self.refusals:
            raise self.refusals[job.name]
        if job.name not in self.started:
            self.started.append(job.name)
        return job.name

    def look(self, name: str) -> Status:
        self.at_look(name)
        states = self.states[name]
        return states.pop(0) if len(states) > 1 else states[0]

    def stop(self, name: str) -> None:
        self.stopped.append(name)

    def links(self, name: str) -> list[str]:
        return [f"job: console of {name}"]

    def resources(self, name: str) -> str:
        return f"resources of {name}"


class Bench:
    """A task's files and a clock."""

    def __init__(self, folder: Path) -> None:
        self.time, self.folder = FakeTime(), folder

    def launcher(self, platform: FakePlatform) -> Launcher:
        return Launcher(
            order=ORDER, platform=platform, resources=self.folder / "pod/gcp_resources", progress=ProgressFile(self.folder / "progress.json"),
            clock=self.time.clock,
        )  # fmt: skip

    def told(self, job: str) -> JobFolder:
        attempt, place = map(int, job.split("-"))
        return JobFolder(uri=ORDER.folder(Try(attempt=attempt, place=place)))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("TUNELINE_GCS_FOLDER", str(tmp_path / "buckets"))
    return Bench(tmp_path)


@pytest.fixture
def sigterm() -> Iterator[None]:
    """SIGTERM means what it means in a step."""
    before = signal.signal(signal.SIGTERM, steps._interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_job_is_started_recorded_and_waited_for(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    recorded: list[str] = []

    def look(name: str) -> None:
        recorded.append((bench.folder / "pod/gcp_resources").read_text())
        bench.told(name).tell_progress(Progress("tuning", len(recorded), 3, "loss=1"))

    platform = FakePlatform({"1-0": [OPEN, OPEN, DONE]}, at_look=look)
    assert bench.launcher(platform).run() == bench.told("1-0")
    assert recorded == ["resources of 1-0"] * 3
    assert bench.time.slept == [20.0, 20.0]
    assert read_progress(bench.folder / "progress.json") == Progress("tuning", 3, 3, "loss=1")
    assert [text for text in ("job: console of 1-0", "job 1-0 is RUNNING", "job 1-0 is SUCCEEDED", "tuning 2/3 loss=1") if text not in caplog.text] == []


def test_without_capacity_the_places_are_tried_in_order(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    platform = FakePlatform({"1-0": [OPEN, FULL], "1-2": [DONE]}, refusals={"1-1": CapacityError("quota of us-east4")})
    assert bench.launcher(platform).run() == bench.told("1-2")
    assert platform.started == ["1-0", "1-2"]
    assert (bench.folder / "pod/gcp_resources").read_text() == "resources of 1-2"
    for place, reason in ((PLACES[1], "stockout"), (PLACES[2], "quota of us-east4")):
        assert f"no capacity: {reason} Falling back to {place.machine_type} in {place.region}." in caplog.text


def test_when_no_place_has_capacity_the_last_reason_is_told(bench: Bench) -> None:
    platform = FakePlatform({"1-0": [FULL], "1-1": [FULL], "1-2": [FULL]})
    with pytest.raises(CapacityError, match="stockout"):
        bench.launcher(platform).run()


@pytest.mark.parametrize(("status", "kind"), [(LOST, InfrastructureError), (WRONG, UserError), (CANCELLED, UserError)])
def test_for_any_other_reason_there_is_no_other_place(status: Status, kind: type[TunelineError], bench: Bench) -> None:
    platform = FakePlatform({"1-0": [OPEN, status]})
    with pytest.raises(kind):
        bench.launcher(platform).run()
    assert platform.started == ["1-0"]


def test_what_the_step_told_counts_more_than_what_the_platform_knows(bench: Bench) -> None:
    platform = FakePlatform({"1-0": [FULL]})
    bench.told("1-0").tell_error("tune-model", UserError("line 3: bad", "line 5: bad", next_action="mend them"))
    with pytest.raises(UserError) as caught:
        bench.launcher(platform).run()
    assert (str(caught.value), caught.value.next_action, caught.value.exit_code) == ("line 3: bad\nline 5: bad", "mend them", 1)


def test_a_step_that_was_stopped_by_its_machine_may_be_tried_again(bench: Bench) -> None:
    bench.told("1-0").tell_error("tune-model", Interrupted("Stopped by SIGTERM."))
    with pytest.raises(InfrastructureError, match="stopped from outside"):
        bench.launcher(FakePlatform({"1-0": [LOST]})).run()


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ({"1-0": OPEN}, "1-0"),
        ({"1-0": DONE}, "1-0"),
        ({"1-0": LOST}, "2-0"),
        ({"1-0": CANCELLED}, "2-0"),
        ({"1-0": FULL}, "1-1"),
        ({"1-0": FULL, "1-1": OPEN}, "1-1"),
        ({"1-1": OPEN}, "1-1"),
        ({"1-0": FULL, "1-1": LOST}, "2-0"),
        ({"1-0": FULL, "1-1": FULL, "1-2": FULL}, "2-0"),
        ({"1-0": LOST, "2-0": FULL, "2-1": FULL}, "2-2"),
        ({"1-0": LOST, "2-0": OPEN}, "2-0"),
    ],
    ids=str,
)
def test_a_launcher_that_is_started_again_goes_on_with_the_newest_job(before: dict[str, Status], expected: str, bench: Bench) -> None:
    newest = list(before)[-1]
    platform = FakePlatform({name: [status] for name, status in before.items()}, started=list(before))
    platform.states[expected] = [before[newest], DONE] if expected == newest else [DONE]
    assert bench.launcher(platform).run() == bench.told(expected)
    assert platform.started == list(dict.fromkeys([*before, expected]))


def test_a_job_that_may_have_been_started_is_settled_by_starting_it(bench: Bench) -> None:
    platform = FakePlatform({"1-0": [FULL], "1-1": [DONE]}, started=["1-0"], unknown={"1-1"})
    assert bench.launcher(platform).run() == bench.told("1-1")


@pytest.mark.parametrize("told", [UserError("bad data"), TunelineError("bug")])
def test_an_error_that_would_come_again_is_told_again(told: TunelineError, bench: Bench) -> None:
    platform = FakePlatform({"1-0": [LOST]}, started=["1-0"])
    bench.told("1-0").tell_error("tune-model", told)
    with pytest.raises(type(told), match=str(told)):
        bench.launcher(platform).run()
    assert platform.started == ["1-0"]


def test_an_api_that_fails_says_nothing_of_the_job(bench: Bench) -> None:
    failures = [InfrastructureError("503"), CapacityError("429: too many requests"), InfrastructureError("503")]

    def fail(_name: str) -> None:
        if failures:
            raise failures.pop()

    platform = FakePlatform({"1-0": [OPEN, DONE]}, at_look=fail)
    assert bench.launcher(platform).run() == bench.told("1-0")
    assert platform.started == ["1-0"]


def test_progress_that_cannot_be_read_is_no_reason_to_end(bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_folder: JobFolder) -> None:
        raise InfrastructureError("gs:// is away")

    monkeypatch.setattr(JobFolder, "progress", fail)
    bench.launcher(FakePlatform({"1-0": [OPEN, DONE]})).run()
    assert "progress is not to be had: gs:// is away" in caplog.text


def test_patience_with_an_api_that_fails_has_an_end(bench: Bench) -> None:
    def fail(_name: str) -> None:
        raise CapacityError("429")

    platform = FakePlatform({}, at_look=fail)
    with pytest.raises(InfrastructureError, match="not to be had") as caught:
        bench.launcher(platform).run()
    assert not isinstance(caught.value, CapacityError)
    assert 1800 < bench.time.moment < 1900
    assert platform.stopped == []


@pytest.mark.usefixtures("sigterm")
def test_sigterm_stops_the_job_and_waits_a_moment_for_it(bench: Bench) -> None:
    platform = FakePlatform({"1-0": [OPEN, OPEN, OPEN, CANCELLED]})
    platform.at_look = lambda _name: os.kill(os.getpid(), signal.SIGTERM) if bench.time.moment == 20 and not platform.stopped else None
    with pytest.raises(Interrupted):
        bench.launcher(platform).run()
    assert platform.stopped == ["1-0"]
    assert bench.time.slept == [20.0, 2.0, 2.0]


@pytest.mark.usefixtures("sigterm")
@pytest.mark.parametrize("shows_after", [5.0, 1000.0])
def test_a_job_that_was_asked_for_and_does_not_show_yet_is_looked_for(bench: Bench, shows_after: float, caplog: pytest.LogCaptureFixture) -> None:
    class Slow(FakePlatform):
        def start(self, order: Order, job: Try) -> str:
            name = super().start(order, job)
            os.kill(os.getpid(), signal.SIGTERM)
            return name

        def find(self, order: Order, job: Try) -> str | None:
            found = super().find(order, job)
            return "" if found and bench.time.moment < shows_after else found

    platform = Slow({"1-0": [OPEN, CANCELLED]})
    with pytest.raises(Interrupted):
        bench.launcher(platform).run()
    assert platform.stopped == (["1-0"] if shows_after < 10 else [])
    assert ("cannot be found" in caplog.text) == (shows_after > 10)


@pytest.mark.usefixtures("sigterm")
def test_a_job_that_does_not_stop_is_not_waited_for_longer_than_the_task_has(bench: Bench) -> None:
    platform = FakePlatform({"1-0": [OPEN]})
    platform.at_look = lambda _name: os.kill(os.getpid(), signal.SIGTERM) if not platform.stopped else None
    with pytest.raises(Interrupted):
        bench.launcher(platform).run()
    assert bench.time.moment == 20


@pytest.mark.usefixtures("sigterm")
def test_sigterm_is_heard_while_progress_is_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobFolder, "progress", lambda _folder: os.kill(os.getpid(), signal.SIGTERM))
    platform = FakePlatform({"1-0": [OPEN, CANCELLED]})
    with pytest.raises(Interrupted):
        bench.launcher(platform).run()
    assert platform.stopped == ["1-0"]


def test_a_job_that_cannot_be_stopped_does_not_change_how_the_task_ends(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    class Unstoppable(FakePlatform):
        def look(self, _name: str) -> Status:
            raise KeyboardInterrupt

        def stop(self, name: str) -> None:
            raise InfrastructureError(f"{name}: 503")

    with pytest.raises(KeyboardInterrupt):
        bench.launcher(Unstoppable({})).run()
    assert "the job could not be stopped: 1-0: 503" in caplog.text


def test_ctrl_c_while_a_job_is_being_started_stops_it_if_it_was(bench: Bench) -> None:
    class Interrupting(FakePlatform):
        def start(self, order: Order, job: Try) -> str:
            super().start(order, job)
            raise KeyboardInterrupt

    platform = Interrupting({"1-0": [CANCELLED]})
    with pytest.raises(KeyboardInterrupt):
        bench.launcher(platform).run()
    assert platform.stopped == ["1-0"]
