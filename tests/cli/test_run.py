import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from tests.fake_template_repository import FakeRepository, serving
from tests.local.fake_engine import fake_engine, flag
from tests.local.fake_pipelines import Fake, From, write
from tuneline.cli import main
from tuneline.cli.run_arguments import SYNTAX, complete
from tuneline.cli.template_arguments import split
from tuneline.errors import UsageError
from tuneline.templates import load

PARAMETERS = {
    "dataset_uri": "",
    "train_steps": 300,
    "learning_rate": -1.0,
    "deploy_model": False,
    "default_context": "",
    "model_display_name": str,
    "project": str,
    "catalog_uri": "",
    "large_model_reference": "base/tiny@001",
}
ECHO = "open(given['out'], 'w').write(json.dumps({k: v for k, v in given.items() if k not in ('out', 'executor_output')}))"
EVALUATION = {"base": {"step": 0, "loss": 2.0}, "candidates": [{"step": 2, "loss": 1.5}, {"step": 4, "loss": 1.0, "rouge_l": 0.5}]}
MODEL = "projects/local/locations/local/models/7@1"
ENDPOINT = "projects/local/locations/local/endpoints/9"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNELINE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def echo(tmp_path: Path) -> str:
    """A template that puts its parameters out as JSON."""
    kinds = {"train_steps": "NUMBER_INTEGER", "learning_rate": "NUMBER_DOUBLE", "deploy_model": "BOOLEAN"}
    takes = {name: From(name, kinds.get(name, "STRING")) for name in PARAMETERS}
    return str(write(tmp_path / "echo.yaml", {"echo": Fake(script=ECHO, takes=takes, puts={"out": "STRUCT"})}, inputs=PARAMETERS))


@pytest.fixture
def tuning(tmp_path: Path) -> str:
    """A template with the outputs of a tuning pipeline."""
    files = {"evaluation": json.dumps(EVALUATION), "selected": json.dumps({"selected_step": 4}), "report": "<!doctype html>"}
    script = f"for name, text in {files!r}.items(): open(given[name], 'w').write(text)\n"
    script += f"open(given['model'], 'w').write({MODEL!r}); open(given['endpoint'], 'w').write({ENDPOINT!r})"
    makes = {"evaluation": "system.Metrics", "selected": "system.Artifact", "report": "system.HTML"}
    task = Fake(script=script, puts={"model": "STRING", "endpoint": "STRING"}, makes=makes)
    outputs = {"model_resource_name": "select.model", "endpoint_resource_name": "select.endpoint"}
    return str(write(tmp_path / "tuning.yaml", {"select": task}, outputs=outputs))


@pytest.fixture
def failing(tmp_path: Path) -> str:
    error = {"code": 1, "attribution": "user", "step": "check", "cause": "rows.jsonl:7: no output", "next_action": "Add it."}
    script = f"open(os.environ['TUNELINE_ERROR_FILE'], 'w').write({json.dumps(error)!r}); sys.exit(0 if os.path.exists({str(tmp_path / 'mended')!r}) else 1)"
    return str(write(tmp_path / "failing.yaml", {"check": Fake(script=script)}))


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, object]:
    """The object that `tuneline run --json` prints, which must be all that it prints."""
    assert main(["run", *arguments, "--json"]) == code
    answer: dict[str, object] = json.loads(capsys.readouterr().out)
    return answer


def echoed(answer: dict[str, object]) -> dict[str, str]:
    values: dict[str, str] = json.loads((Path(str(answer["run_dir"])) / "tasks/echo/attempt-1/out").read_text())
    return values


def test_parameters_of_the_template_are_flags_in_kebab_or_snake_case(echo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = run(
        capsys, echo, "--train-steps", "5", "--learning_rate=-0.5", "--deploy-model", "--default-context", "--be brief", "--dataset-uri", "data/rows.jsonl",
        "--model-display-name", "it's mine",
    )  # fmt: skip
    assert echoed(answer) == {
        "dataset_uri": str(tmp_path / "data/rows.jsonl"),
        "train_steps": "5",
        "learning_rate": "-0.5",
        "deploy_model": "true",
        "default_context": "--be brief",
        "model_display_name": "it's mine",
        "project": "local",
        "catalog_uri": "",
        "large_model_reference": "base/tiny@001",
    }


def test_json_has_one_object_with_the_run_s_result(tuning: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = run(capsys, tuning, "--runs-dir", "here", "--name", "mine")
    assert answer == {
        "run": "mine",
        "state": "PIPELINE_STATE_SUCCEEDED",
        "model_resource_name": MODEL,
        "endpoint_resource_name": ENDPOINT,
        "selected_step": 4,
        "metrics": {"base": {"loss": 2.0}, "tuned": {"loss": 1.0, "rouge_l": 0.5}},
        "run_dir": str(tmp_path / "here/mine"),
        "report": str(tmp_path / "here/mine/report.html"),
        "skipped": "",
        "promotion": "",
    }


def test_people_are_told_what_to_do_next(tuning: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", tuning, "--name", "mine", "--quiet"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    for part in (MODEL, str(tmp_path / "home/runs/mine/report.html"), "tuneline predict 9 --prompt", "tuneline endpoints undeploy 9", "2.0000     1.0000"):
        assert part in told.out


def test_a_failure_is_told_with_its_code_cause_and_next_action(failing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = run(capsys, failing, "--name", "mine", code=1)
    assert answer["state"] == "PIPELINE_STATE_FAILED"
    assert isinstance(answer["error"], dict)
    assert answer["error"]["cause"] == "rows.jsonl:7: no output"
    assert main(["run", failing, "--quiet"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "rows.jsonl:7: no output\nAdd it.\nLog: " in told.err


def test_a_run_goes_on_by_its_name_or_folder_and_keeps_its_parameters(failing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, failing, "--name", "mine", code=1)
    assert run(capsys, "--resume", "mine", code=1)["run"] == "mine"
    (tmp_path / "mended").touch()
    assert run(capsys, "--resume", str(tmp_path / "home/runs/mine"))["state"] == "PIPELINE_STATE_SUCCEEDED"
    assert run(capsys, failing, "--resume", "mine")["state"] == "PIPELINE_STATE_SUCCEEDED"
    assert "There is no run 'mime'" in str(run(capsys, "--resume", "mime", code=1)["error"])
    for more in (["--name", "x"], ["--catalog", "x"], ["--containers"], ["--container-engine", "podman"]):
        assert "leave out" in str(run(capsys, "--resume", "mine", *more, code=2)["error"])


def test_a_run_in_containers_is_recorded_and_shown(failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "programs"), prepend=os.pathsep)
    with fake_engine(tmp_path / "podman", tmp_path / "programs", "podman") as engine:
        containers = ["--containers", "--container-engine", "podman", "--container-memory", "1Gi"]
        assert run(capsys, failing, "--name", "mine", *containers, code=1)["state"] == "PIPELINE_STATE_FAILED"
        assert json.loads((tmp_path / "home/runs/mine/run.json").read_text())["containers"]["memoryBytes"] == 1 << 30
        assert main(["runs", "mine"]) == 0
        assert "engine  podman\nimage   fake:1 = sha256:aa11" in capsys.readouterr().out
        (tmp_path / "mended").touch()
        assert run(capsys, "--resume", "mine", "--container-memory", "2Gi")["state"] == "PIPELINE_STATE_SUCCEEDED"
        assert [flag(call, "--memory") for call in engine.calls("run")] == [["1073741824b"], ["2147483648b"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--train-step", "5"], "Did you mean '--train-steps'?"),
        (["--trainsteps=5", "--nonsense"], "unknown flag '--nonsense'"),
        (["--train-steps"], "--train-steps needs a value"),
        (["--train-steps", "1", "--train_steps", "2"], "given twice"),
        (["more.yaml"], "unexpected argument 'more.yaml'"),
        (["--grace", "soon"], "--grace is 'soon'"),
        (["--catalog", "a", "--catalog-uri", "b"], "same parameter"),
        (["--name", "a/b"], "cannot be a folder name"),
        (["--container-memory", "1Gi"], "--container-memory is for runs in containers; give --containers, too"),
        (["--containers", "--container-engine", "dokcer"], "--container-engine is 'dokcer'; expected docker or podman"),
        (["--containers", "--container-memory", "much", "--container-cpus", "no"], "'much' is not a size of memory"),
        (["--containers", "--container-memory", "much", "--container-cpus", "no"], "'no' is not a number of processors"),
    ],
)
def test_wrong_usage_ends_with_2_and_tells_what_was_meant(arguments: list[str], said: str, echo: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", echo, *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (home / "runs").exists()


def test_values_of_the_wrong_type_and_missing_templates_end_with_their_codes(echo: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", echo, "--train-steps", "many"]) == 1
    assert main(["run", echo, "--deploy-model=maybe"]) == 1
    assert main(["run", "nowhere.yaml"]) == 1
    assert main(["run"]) == 2
    assert main(["run", "--quiet", echo]) == 2
    assert capsys.readouterr().out == ""


def test_the_catalog_flag_sets_the_parameter_when_the_template_has_it(echo: str, tuning: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert echoed(run(capsys, echo, "--catalog", "rows.toml"))["catalog_uri"] == str(tmp_path / "rows.toml")
    assert main(["run", tuning, "--catalog", "rows.toml"]) == 2


def test_names_and_paths_are_filled_in_for_people(tmp_path: Path) -> None:
    moment = datetime(2025, 11, 22, 5, 10)
    template = load("tune-large-model")
    (tmp_path / "weights").mkdir()
    given = {
        "large_model_reference": "tuneline/tiny-code@001",
        "dataset_uri": "data/rows.jsonl",
        "evaluation_data_uri": "gs://bucket/rows.jsonl",
        "evaluation_output_root_dir": "out",
        "base_model_uri": "weights",
    }
    completed = complete(given, template, moment=moment)
    assert completed == {
        "large_model_reference": "tuneline/tiny-code@001",
        "dataset_uri": str(tmp_path / "data/rows.jsonl"),
        "evaluation_data_uri": "gs://bucket/rows.jsonl",
        "evaluation_output_root_dir": str(tmp_path / "out"),
        "base_model_uri": str(tmp_path / "weights"),
        "project": "local",
        "model_display_name": "tiny-code@001 rows 2025-11-22",
    }
    assert complete({"base_model_uri": "owner/name", "project": "p"}, template, moment=moment)["base_model_uri"] == "owner/name"


@pytest.mark.parametrize("name", ["champion_gate", "continue_from_champion", "skip_unchanged"])
def test_a_model_that_is_compared_with_earlier_ones_has_their_name(name: str) -> None:
    moment = datetime(2025, 11, 22, 5, 10)
    named = {value: complete({name: value}, load("tune-large-model"), moment=moment)["model_display_name"] for value in ("true", "False")}
    assert named == {"true": "text-bison@001", "False": "text-bison@001 2025-11-22"}


def test_a_boolean_may_stand_alone_anywhere() -> None:
    inputs = load("tune-large-model").inputs
    assert split(["t", "--deploy-model", "--json"], inputs, SYNTAX).parameters == {"deploy_model": "true"}
    assert split(["t", "--deploy-model", "False", "--train-steps", "-1"], inputs, SYNTAX).parameters == {"deploy_model": "False", "train_steps": "-1"}
    with pytest.raises(UsageError, match="unknown flag '--foo'"):
        split(["t", "--foo", "value", "--json"], inputs, SYNTAX)


def test_help_lists_the_template_s_parameters_and_loads_no_heavy_module() -> None:
    program = (
        "import sys; before = set(sys.modules); from tuneline.cli import main; main(sys.argv[1:])\n"
        "heavy = {'torch', 'transformers', 'kfp', 'google.cloud', 'numpy', 'rich', 'fastapi'} & (set(sys.modules) - before)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program, "run", "tune-large-model", "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "--train-steps NUMBER" in done.stdout
    assert "[300]" in done.stdout
    assert "--resume RUN" in done.stdout


def test_a_run_itself_loads_no_heavy_module(tuning: str, tmp_path: Path) -> None:
    program = (
        "import sys; before = set(sys.modules); from tuneline.cli import main; code = main(sys.argv[1:])\n"
        "heavy = {'torch', 'transformers', 'kfp', 'google.cloud', 'numpy'} & (set(sys.modules) - before)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", program, "run", tuning], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "select               succeeded" in done.stderr


def test_a_repositorys_template_is_recorded_by_its_digest(echo: str, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(FakeRepository()) as repository:
        assert main(["template", "publish", echo, "--to", repository.url, "--tag", "1"]) == 0
        uri = capsys.readouterr().out.splitlines()[-1]
        answer = run(capsys, uri)
    record = json.loads(Path(str(answer["run_dir"]), "run.json").read_text())
    assert record["template"] == f"{uri.rpartition('/')[0]}/{load(echo).digest}"
