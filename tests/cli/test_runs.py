import json
from pathlib import Path

import pytest

from tests.local.fake_pipelines import Fake, write
from tuneline.cli import main
from tuneline.local.run_folder import RunFolder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNELINE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Two runs: `good`, then `bad`."""
    named = Fake(script="open(given['name'], 'w').write('projects/local/locations/local/models/7@1')", puts={"name": "STRING"})
    good = write(tmp_path / "good.yaml", {"a": named, "b": Fake(script="", after=["a"])}, outputs={"model_resource_name": "a.name"})
    bad = write(tmp_path / "bad.yaml", {"a": Fake(script="sys.exit(13)"), "b": Fake(script="", after=["a"])})
    assert main(["run", str(good), "--name", "good", "--quiet"]) == 0
    assert main(["run", str(bad), "--name", "bad", "--quiet"]) == 13
    capsys.readouterr()
    return tmp_path / "home/runs"


def test_runs_are_listed_newest_first(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines] == [["RUN", "STATE"], ["bad", "FAILED"], ["good", "SUCCEEDED"]]
    assert lines[2][-1] == "projects/local/locations/local/models/7@1"
    assert main(["runs", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["runs"]
    assert [(run["run"], run["state"], run["model_resource_name"]) for run in found] == [
        ("bad", "PIPELINE_STATE_FAILED", ""),
        ("good", "PIPELINE_STATE_SUCCEEDED", "projects/local/locations/local/models/7@1"),
    ]


def test_one_run_shows_its_tasks_with_their_logs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "bad"]) == 0
    told = capsys.readouterr().out
    assert str(runs / "bad/logs/a.log") in told
    assert "FAILED after" in told
    assert "a ended with exit code 13." in told
    assert main(["runs", str(runs / "bad"), "--json"]) == 0
    tasks = json.loads(capsys.readouterr().out)["taskDetails"]
    assert [(task["taskName"], task["state"], task["seconds"] > 0) for task in tasks] == [("a", "FAILED", True), ("b", "PENDING", False)]
    assert tasks[0]["error"]["code"] == 13


def test_a_run_whose_engine_died_is_paused_and_shows_no_false_life(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = runs / "good/run.json"
    file.write_text(file.read_text().replace("PIPELINE_STATE_SUCCEEDED", "PIPELINE_STATE_RUNNING"), encoding="utf-8")
    assert main(["runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][1]["state"] == "PIPELINE_STATE_PAUSED"
    with RunFolder(runs / "good").locked():
        assert main(["runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][1]["state"] == "PIPELINE_STATE_RUNNING"


def test_the_progress_of_a_running_task_is_shown(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = runs / "good/run.json"
    file.write_text(file.read_text().replace('"SUCCEEDED"', '"RUNNING"'), encoding="utf-8")
    progress = {"activity": "training step", "completed": 3, "total": 10, "message": "loss=1.5"}
    (runs / "good/tasks/b/attempt-1/progress.json").write_text(json.dumps(progress), encoding="utf-8")
    assert main(["runs", "good"]) == 0
    assert "training step 3/10 loss=1.5" in capsys.readouterr().out
    assert main(["runs", "good", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["taskDetails"][1]["progress"] == progress


def test_an_unknown_run_is_named_with_its_neighbour(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "goood"]) == 1
    assert "Did you mean 'good'?" in capsys.readouterr().err


def test_a_machine_without_runs_says_how_to_start_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--runs-dir", str(tmp_path / "none")]) == 0
    assert "tuneline run tune-large-model" in capsys.readouterr().out


def test_a_damaged_record_is_named_and_hides_no_other_run(runs: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    (runs / "good/run.json").write_text("{}", encoding="utf-8")
    assert main(["runs", "--json"]) == 0
    assert [run["run"] for run in json.loads(capsys.readouterr().out)["runs"]] == ["bad"]
    assert str(runs / "good/run.json") in caplog.text
    assert main(["runs", "good"]) == 13
    assert str(runs / "good/run.json") in capsys.readouterr().err
