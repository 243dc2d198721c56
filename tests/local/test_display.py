import io
from pathlib import Path

import pytest

from tests.local.fake_pipelines import Fake, template
from tuneline.local import display
from tuneline.local.display import Bars, Lines, Pace, Silence, choose_display, clock
from tuneline.local.engine import Options, run
from tuneline.local.run_record import TaskRecord, TaskState
from tuneline.progress import Progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


PROGRESS = 'json.dump(dict(activity="training step", completed=3, total=10, message="loss=1.5"), open(os.environ["TUNELINE_PROGRESS_FILE"], "w"))\n'


def lines_of(tmp_path: Path, name: str) -> list[str]:
    """What a run of a good and a bad task shows in a file, every line once."""
    stream = io.StringIO()
    tasks = {"good": Fake(script=PROGRESS, cached=True), "bad": Fake(script="sys.exit(1)", after=["good"])}
    run(template(tasks), {}, runs_dir=tmp_path, name=name, display=choose_display(quiet=False, stream=stream))
    assert "\x1b" not in stream.getvalue()
    return list(dict.fromkeys(" ".join(line.split()) for line in stream.getvalue().splitlines()))


def test_elsewhere_than_in_a_terminal_every_change_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "PROGRESS_LINE_SECONDS", 0.0)
    lines = lines_of(tmp_path, "first")
    assert lines[:3] == [f"first in {tmp_path / 'first'}", "good running", "good training step 3/10 loss=1.5"]
    assert lines[3].startswith("good succeeded after")
    assert lines[4] == "bad running"
    assert lines[5].startswith("bad FAILED after")
    assert "good cached: the same inputs as in first" in lines_of(tmp_path, "second")


def test_progress_has_a_line_at_most_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 1.0, 9.9, 10.0, 11.0, 25.0])
    monkeypatch.setattr(display.time, "monotonic", lambda: next(moments))
    stream = io.StringIO()
    lines = Lines(stream)
    lines.changed(TaskRecord(name="t", create_time="", state=TaskState.RUNNING))
    for done in range(5):
        lines.progressed("t", Progress("step", done, 100))
    assert stream.getvalue().splitlines() == [
        "t                    running",
        "t                    step 2/100, 9.8 s left",
        "t                    step 4/100, 8:03 left",
    ]


RUNNING = TaskRecord(name="tune", create_time="", state=TaskState.RUNNING)
ENDED = TaskRecord(name="check", create_time="", state=TaskState.SUCCEEDED, start_time="2025-01-01T00:00:00.000Z", end_time="2025-01-01T00:01:04.000Z")


def in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> str:
    """What a terminal receives from one ended and one running task."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "140")
    stream = Terminal()
    shown = choose_display(quiet=False, stream=stream)
    assert isinstance(shown, Bars)
    shown.changed(RUNNING)
    shown.progressed("tune", Progress("training step", 3, 10, "loss=1.5"))
    shown.changed(ENDED)
    shown.close()
    return stream.getvalue()


def test_a_terminal_shows_bars_and_keeps_a_line_for_what_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown = in_a_terminal(monkeypatch)
    for part in ("training step", "3/10", "loss=1.5", "check                succeeded after 1:04"):
        assert part in shown


def test_no_color_is_respected_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[38;" in in_a_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[38;" not in in_a_terminal(monkeypatch)


def test_quiet_shows_nothing() -> None:
    assert isinstance(choose_display(quiet=True), Silence)


def test_logs_are_shown_line_by_line_when_asked(tmp_path: Path) -> None:
    stream = io.StringIO()
    script = "print('first'); print('second', file=sys.stderr)"
    run(template({"t": Fake(script=script)}), {}, runs_dir=tmp_path, options=Options(show_logs=True), display=Lines(stream))
    shown = [line for line in stream.getvalue().splitlines() if line.startswith("t | ")]
    assert shown[-2:] == ["t | first", "t | second"]
    assert shown[0].startswith("t | $ ")


def test_the_time_left_is_estimated_from_what_was_done_since_the_first_report() -> None:
    pace = Pace()
    assert pace.seconds_left("t", Progress("step", 50, 100), 0.0) is None
    assert pace.seconds_left("t", Progress("step", 60, 100), 5.0) == pytest.approx(20.0)
    assert pace.seconds_left("t", Progress("evaluation", 1, 2), 6.0) is None


def test_the_first_unit_is_not_counted_because_it_pays_for_the_start() -> None:
    pace = Pace()
    for done, moment in ((0, 0.0), (0, 30.0), (1, 60.0)):
        assert pace.seconds_left("t", Progress("step", done, 11), moment) is None
    assert pace.seconds_left("t", Progress("step", 2, 11), 61.0) == pytest.approx(9.0)


@pytest.mark.parametrize(("seconds", "text"), [(3.21, "3.2 s"), (64, "1:04"), (59.96, "1:00"), (7384, "2:03:04")])
def test_times_are_short(seconds: float, text: str) -> None:
    assert clock(seconds) == text
