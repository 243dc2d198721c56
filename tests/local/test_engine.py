import errno
import json
import threading
from pathlib import Path

import pytest
import yaml

from tests.local.fake_pipelines import Fake, From, template
from tuneline.errors import InfrastructureError, ParameterError, TemplateError, UsageError, UserError
from tuneline.local.engine import Options, resume, run
from tuneline.local.run_folder import RunFolder
from tuneline.local.run_record import RunRecord, RunState, TaskState
from tuneline.templates import Template, read

QUICK = Options(grace_seconds=1.0)
SAY = "pathlib.Path(given['said']).write_text(given['word'])"
NASTY = 'it\'s "quoted"\n$HOME `id` {{ x }} ; rm -rf / \\ %s é 漢'


def conditions() -> Template:
    return read((Path(__file__).parent / "conditions.yaml").read_text(encoding="utf-8"), "conditions.yaml")


def test_values_and_artifacts_go_from_task_to_task_by_reference(tmp_path: Path) -> None:
    make = Fake(
        script="assert not os.path.exists(given['data']); os.mkdir(given['data']); open(given['data'] + '/x', 'w').write(given['text'] * int(given['n']))\n"
        "open(given['size'], 'w').write(str(len(given['text'])) + '.0')",
        takes={"text": From("text"), "n": 2},
        puts={"size": "NUMBER_INTEGER"},
        makes={"data": "system.Dataset"},
    )
    use = Fake(
        script="open(given['out'], 'w').write(open(given['data'] + '/x').read() + given['size'])",
        takes={"size": From("make.size", "NUMBER_INTEGER")},
        reads={"data": "make.data"},
        puts={"out": "STRING"},
    )
    record = run(template({"make": make, "use": use}, inputs={"text": str}, outputs={"result": "use.out"}), {"text": "ab"}, runs_dir=tmp_path, name="one")
    assert record.state == RunState.SUCCEEDED
    assert record.exit_code == 0
    assert record.outputs.parameters == {"result": "abab2"}
    assert record.tasks["make"].outputs.artifacts["data"].uri == str(tmp_path / "one/tasks/make/attempt-1/data")
    written = json.loads((tmp_path / "one/run.json").read_text())
    assert written["state"] == "PIPELINE_STATE_SUCCEEDED"
    assert written["outputs"] == {"result": "abab2"}
    assert [(task["taskName"], task["state"], task["attempts"]) for task in written["taskDetails"]] == [("make", "SUCCEEDED", 1), ("use", "SUCCEEDED", 1)]
    assert yaml.safe_load((tmp_path / "one/template.yaml").read_text())["pipelineInfo"]["name"] == "fake"


def test_a_user_s_text_reaches_the_command_unchanged(tmp_path: Path) -> None:
    say = Fake(script=SAY, takes={"word": From("text")}, puts={"said": "STRING"})
    again = Fake(script=SAY, takes={"word": From("say.said")}, puts={"said": "STRING"})
    record = run(template({"say": say, "again": again}, inputs={"text": str}), {"text": NASTY}, runs_dir=tmp_path)
    assert record.tasks["again"].outputs.parameters == {"said": NASTY}


def test_placeholders_that_a_task_puts_out_are_not_expanded_in_the_next(tmp_path: Path) -> None:
    forge = Fake(script="open(given['word'], 'w').write('{' * 2 + '$.pipeline_job_name' + '}' * 2)", puts={"word": "STRING"})
    say = Fake(script=SAY, takes={"word": From("forge.word")}, puts={"said": "STRING"})
    record = run(template({"forge": forge, "say": say}), {}, runs_dir=tmp_path)
    assert record.tasks["say"].outputs.parameters == {"said": "{{$.pipeline_job_name}}"}


def test_placeholders_of_the_template_tell_the_run_and_the_place(tmp_path: Path) -> None:
    text = "{{$.pipeline_job_name}} {{$.pipeline_google_cloud_location}} {{$.pipeline_google_cloud_project_id}} {{$.pipeline_task_name}} {{$.pipeline_network}}"
    say = Fake(script=SAY, takes={"word": text}, puts={"said": "STRING"})
    other = Fake(script=SAY, takes={"word": From("place")}, puts={"said": "STRING"})
    record = run(
        template({"say": say, "other": other}, inputs={"project": "p1", "place": "{{$.pipeline_google_cloud_location}}"}), {}, runs_dir=tmp_path, name="r-1"
    )
    assert record.tasks["say"].outputs.parameters == {"said": "r-1 local p1 say "}
    assert record.tasks["other"].outputs.parameters == {"said": "local"}
    assert record.parameters["place"] == "local"


@pytest.mark.parametrize(
    ("value", "text"), [(300, "300"), (1.0, "1.0"), (True, "true"), ([1, "a"], '[1, "a"]'), ({"a": None}, '{"a": null}'), ("-x", "-x")], ids=str
)
def test_values_are_written_in_commands_as_kfp_writes_them(value: object, text: str, tmp_path: Path) -> None:
    record = run(template({"say": Fake(script=SAY, takes={"word": value}, puts={"said": "STRING"})}), {}, runs_dir=tmp_path)
    assert record.tasks["say"].outputs.parameters == {"said": text}


def test_the_executor_output_overrides_uri_metadata_and_parameters(tmp_path: Path) -> None:
    told = {"artifacts": {"model": {"artifacts": [{"name": "model", "uri": "gs://b/m", "metadata": {"loss": 0.5}}]}}, "parameterValues": {"n": 4.0}}
    make = Fake(script=f"open(given['executor_output'], 'w').write({json.dumps(told)!r})", makes={"model": "system.Model"}, puts={"n": "NUMBER_INTEGER"})
    use = Fake(script="open(given['path'], 'w').write(given['model'])", reads={"model": "make.model"}, puts={"path": "STRING"})
    record = run(template({"make": make, "use": use}), {}, runs_dir=tmp_path)
    model = record.tasks["make"].outputs.artifacts["model"]
    assert (model.uri, model.schema_title, model.metadata) == ("gs://b/m", "system.Model", {"loss": 0.5})
    assert record.tasks["make"].outputs.parameters == {"n": 4}
    assert record.tasks["use"].outputs.parameters == {"path": "/gcs/b/m"}


def test_independent_tasks_run_at_the_same_time(tmp_path: Path) -> None:
    meet = (
        "pathlib.Path(given['place'], given['me']).touch(); end = time.monotonic() + 30\n"
        "while not os.path.exists(os.path.join(given['place'], given['other'])):\n    assert time.monotonic() < end; time.sleep(0.01)"
    )
    tasks = {me: Fake(script=meet, takes={"place": str(tmp_path), "me": me, "other": other}) for me, other in (("a", "b"), ("b", "a"))}
    assert run(template(tasks), {}, runs_dir=tmp_path / "runs").state == RunState.SUCCEEDED


def test_no_more_tasks_run_at_once_than_allowed(tmp_path: Path) -> None:
    alone = "os.mkdir(given['place']); time.sleep(0.05); os.rmdir(given['place'])"
    tasks = {f"t{n}": Fake(script=alone, takes={"place": str(tmp_path / "one")}) for n in range(3)}
    assert run(template(tasks), {}, runs_dir=tmp_path / "runs", options=Options(max_parallel_tasks=1)).state == RunState.SUCCEEDED


def test_a_failed_task_tells_its_error_and_what_depends_on_it_is_not_started(tmp_path: Path) -> None:
    error = {"code": 1, "attribution": "user", "step": "check", "cause": "data.jsonl:7: no output", "next_action": "Add it."}
    fail = f"open(os.environ['TUNELINE_ERROR_FILE'], 'w').write({json.dumps(error)!r}); print('secret row'); sys.exit(1)"
    record = run(template({"check": Fake(script=fail), "use": Fake(script="", after=["check"])}), {}, runs_dir=tmp_path, name="bad")
    assert record.state == RunState.FAILED
    assert record.exit_code == 1
    assert record.tasks["use"].state == TaskState.PENDING
    told = json.loads((tmp_path / "bad/error.json").read_text())
    assert told == {**error, "log": str(tmp_path / "bad/logs/check.log")}
    assert "secret row" in Path(told["log"]).read_text()
    assert "secret row" not in (tmp_path / "bad/run.json").read_text()


def test_tasks_that_run_already_may_finish_when_another_fails(tmp_path: Path) -> None:
    wait = "end = time.monotonic() + 30\nwhile not os.path.exists(given['sign']):\n    assert time.monotonic() < end; time.sleep(0.01)"
    tasks = {
        "fails": Fake(script="sys.exit(13)"),
        "finishes": Fake(script=wait, takes={"sign": str(tmp_path / "runs/r/error-seen")}),
        "never": Fake(script="", after=["finishes"]),
    }
    waiter = threading.Thread(target=lambda: _touch_once_failed(tmp_path / "runs/r"), daemon=True)
    waiter.start()
    record = run(template(tasks), {}, runs_dir=tmp_path / "runs", name="r")
    assert {name: str(task.state) for name, task in record.tasks.items()} == {"fails": "FAILED", "finishes": "SUCCEEDED", "never": "PENDING"}
    assert record.exit_code == 13


def _touch_once_failed(run_dir: Path) -> None:
    from tests.local.fake_pipelines import eventually

    eventually(lambda: (run_dir / "run.json").exists() and '"FAILED"' in (run_dir / "run.json").read_text())
    (run_dir / "error-seen").touch()


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("sys.exit(1)", 1, "exit code 1"),
        ("sys.exit(2)", 2, "exit code 2"),
        ("sys.exit(70)", 70, "exit code 70"),
        ("import signal; os.kill(os.getpid(), signal.SIGKILL)", 13, "SIGKILL"),
        ("import signal; os.kill(os.getpid(), signal.SIGSEGV)", 13, "SIGSEGV"),
    ],
)
def test_a_run_ends_with_the_code_of_the_task_that_failed(script: str, code: int, said: str, tmp_path: Path) -> None:
    record = run(template({"t": Fake(script=script)}), {}, runs_dir=tmp_path)
    assert record.exit_code == code
    assert record.error is not None
    assert said in record.error.cause
    assert json.loads((tmp_path / record.name / "error.json").read_text())["code"] == code


def test_a_command_that_is_not_there_is_told_in_the_log(tmp_path: Path) -> None:
    record = run(template({"t": Fake(script="", command=["no-such-program", "x"])}), {}, runs_dir=tmp_path, name="r")
    assert record.state == RunState.FAILED
    assert "cannot start 'no-such-program'" in (tmp_path / "r/logs/t.log").read_text()


COUNT = "log = pathlib.Path(given['seen']); log.open('a').write('x'); n = len(log.read_text()); "


def test_a_retry_starts_with_a_clean_folder(tmp_path: Path) -> None:
    script = COUNT + "assert not os.path.exists(given['out']); open(given['out'], 'w').write(str(n)); sys.exit(13 if n < 3 else 0)"
    task = Fake(script=script, takes={"seen": str(tmp_path / "seen")}, puts={"out": "STRING"}, retries=3)
    record = run(template({"t": task}), {}, runs_dir=tmp_path, name="r")
    assert record.tasks["t"].outputs.parameters == {"out": "3"}
    assert record.tasks["t"].attempts == 3
    assert record.tasks["t"].error is None


@pytest.mark.parametrize(
    ("exit_line", "tries"), [("sys.exit(13)", 3), ("os.kill(os.getpid(), 9)", 3), ("sys.exit(1)", 1), ("sys.exit(2)", 1), ("sys.exit(70)", 1)]
)
def test_only_what_may_go_better_next_time_is_tried_again(exit_line: str, tries: int, tmp_path: Path) -> None:
    record = run(template({"t": Fake(script=COUNT + exit_line, takes={"seen": str(tmp_path / "seen")}, retries=2)}), {}, runs_dir=tmp_path)
    assert record.state == RunState.FAILED
    assert len((tmp_path / "seen").read_text()) == tries


def test_a_retry_is_told_where_the_earlier_attempt_saved_checkpoints(tmp_path: Path) -> None:
    script = (
        COUNT + "found = os.environ.get('TUNELINE_RESUME_FROM', 'nothing')\n"
        "if n == 1: os.makedirs(given['checkpoints'] + '/checkpoint-5'); open(given['checkpoints'] + '/checkpoint-5/COMMIT.json', 'w').close()\n"
        "if n == 2: os.makedirs(given['checkpoints'] + '/checkpoint-6')\n"
        "open(given['out'], 'w').write(found); sys.exit(13 if n < 3 else 0)"
    )
    task = Fake(script=script, takes={"seen": str(tmp_path / "seen")}, puts={"out": "STRING"}, makes={"checkpoints": "system.Model"}, retries=2)
    record = run(template({"t": task}), {}, runs_dir=tmp_path, name="r")
    assert (tmp_path / "r/tasks/t/attempt-1/out").read_text() == "nothing"
    assert record.tasks["t"].outputs.parameters == {"out": str(tmp_path / "r/tasks/t/attempt-1/checkpoints")}


@pytest.mark.parametrize(("script", "said"), [("", "'n' was not written"), ("open(given['n'], 'w').write('many')", "'many' is not a whole number")])
def test_an_output_parameter_must_be_written_and_of_its_type(script: str, said: str, tmp_path: Path) -> None:
    record = run(template({"t": Fake(script=script, puts={"n": "NUMBER_INTEGER"})}), {}, runs_dir=tmp_path)
    assert record.exit_code == 1
    assert record.error is not None
    assert said in record.error.cause


def test_tasks_get_the_environment_that_steps_expect(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "relative/folder")
    monkeypatch.setenv("TUNELINE_RESUME_FROM", "/from/elsewhere")
    names = [
        "TUNELINE_PROGRESS_FILE",
        "TUNELINE_ERROR_FILE",
        "TUNELINE_HOME",
        "TUNELINE_RESUME_FROM",
        "OMP_WAIT_POLICY",
        "PYTHONUNBUFFERED",
        "PYTHONPATH",
        "EXTRA",
    ]
    script = f"open(given['out'], 'w').write(json.dumps({{k: os.environ.get(k) for k in {names}}} | {{'cwd': os.getcwd()}}))"
    task = Fake(script=script, puts={"out": "STRUCT"}, environment={"EXTRA": "{{$.pipeline_job_name}}"})
    record = run(template({"t": task}), {}, runs_dir=tmp_path, name="r")
    attempt = tmp_path / "r/tasks/t/attempt-1"
    assert record.tasks["t"].outputs.parameters["out"] == {
        "TUNELINE_PROGRESS_FILE": str(attempt / "progress.json"),
        "TUNELINE_ERROR_FILE": str(attempt / "error.json"),
        "TUNELINE_HOME": str(home),
        "TUNELINE_RESUME_FROM": None,
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(Path.cwd() / "relative/folder"),
        "EXTRA": "r",
        "cwd": str(attempt),
    }


LONG, LOUD, ABC, SHORT = "condition-3", "condition-3.condition-2", "condition-4", "condition-5"


@pytest.mark.parametrize(
    ("parameters", "output", "taken"),
    [
        ({"text": "hello"}, "long: hello", {LONG}),
        ({"text": "hello", "loud": True}, "long: hello", {LONG, LOUD}),
        ({"text": "abc"}, "abc", {ABC}),
        ({"text": "x"}, "short", {SHORT}),
        ({"text": "' || true || 'a' == 'a", "limit": 99}, "short", {SHORT}),
    ],
    ids=["long", "loud", "abc", "short", "text that looks like a condition"],
)
def test_conditions_choose_the_tasks_that_run(parameters: dict[str, object], output: str, taken: set[str], tmp_path: Path) -> None:
    record = run(conditions(), parameters, runs_dir=tmp_path)
    assert record.state == RunState.SUCCEEDED
    assert record.outputs.parameters == {"Output": output}
    states = {name.removeprefix("condition-branches-1."): task.state for name, task in record.tasks.items()}
    assert {name for name in (LONG, LOUD, ABC, SHORT) if states.get(name) == TaskState.SUCCEEDED} == taken
    assert {name for name, state in states.items() if state == TaskState.NOT_TRIGGERED} == {LONG, ABC, SHORT, *([LOUD] if LONG in taken else [])} - taken


def test_a_task_after_one_that_was_not_triggered_is_not_triggered_either(tmp_path: Path) -> None:
    first = Fake(script=SAY, takes={"word": "x"}, puts={"said": "STRING"}, condition="inputs.parameter_values['word'] == 'y'")
    second = Fake(script="", takes={"word": From("first.said")})
    record = run(template({"first": first, "second": second}, outputs={"word": "first.said"}), {}, runs_dir=tmp_path)
    assert record.state == RunState.SUCCEEDED
    assert {str(task.state) for task in record.tasks.values()} == {"NOT_TRIGGERED"}
    assert record.outputs.parameters == {}


def test_a_failure_inside_a_branch_fails_the_branch_and_the_run(tmp_path: Path) -> None:
    spec = yaml.safe_load((Path(__file__).parent / "conditions.yaml").read_text())
    for executor in spec["deploymentSpec"]["executors"].values():
        if "len" not in executor["container"]["command"][2]:
            executor["container"]["command"] = ["python", "-c", "import sys; sys.exit(13)"]
    record = run(read(yaml.safe_dump(spec), "x"), {}, runs_dir=tmp_path)
    assert record.exit_code == 13
    assert {name for name, task in record.tasks.items() if task.state == TaskState.FAILED} >= {"condition-branches-1", "condition-branches-1.condition-3"}
    assert record.error is not None
    assert record.error.log.endswith(".log")


def test_a_condition_over_values_of_different_types_fails_its_task(tmp_path: Path) -> None:
    task = Fake(script="", takes={"word": "x"}, condition="inputs.parameter_values['word'] == 1")
    record = run(template({"t": task, "other": Fake(script="")}), {}, runs_dir=tmp_path)
    assert record.exit_code == 1
    assert record.error is not None
    assert "compares 'x' with 1" in record.error.cause
    assert record.tasks["other"].state == TaskState.PENDING


def test_missing_and_unknown_parameters_are_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="text is missing"):
        run(template({"t": Fake(script="")}, inputs={"text": str}), {}, runs_dir=tmp_path / "runs")
    with pytest.raises(UsageError, match="Did you mean 'text'"):
        run(template({"t": Fake(script="")}, inputs={"text": "a"}), {"texd": "b"}, runs_dir=tmp_path / "runs")
    with pytest.raises(TemplateError, match="Did you mean"):
        run(template({"t": Fake(script="", takes={"a": From("texd")})}, inputs={"text": "a"}), {}, runs_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_two_runs_in_one_second_have_two_folders_and_a_name_is_used_once(tmp_path: Path) -> None:
    quick = template({"t": Fake(script="")})
    assert len({run(quick, {}, runs_dir=tmp_path).name for _ in range(3)}) == 3
    run(quick, {}, runs_dir=tmp_path, name="mine")
    with pytest.raises(UserError, match="exists already"):
        run(quick, {}, runs_dir=tmp_path, name="mine")
    with pytest.raises(UsageError, match="cannot be a folder name"):
        run(quick, {}, runs_dir=tmp_path, name="../mine")


def test_a_failed_run_goes_on_after_the_last_task_that_succeeded(tmp_path: Path) -> None:
    first = Fake(script=COUNT, takes={"seen": str(tmp_path / "first")})
    fails = Fake(script=COUNT + "sys.exit(0 if os.path.exists(given['seen'] + '-mended') else 1)", takes={"seen": str(tmp_path / "second")}, after=["first"])
    last = Fake(script=COUNT, takes={"seen": str(tmp_path / "last")}, after=["fails"])
    assert run(template({"first": first, "fails": fails, "last": last}), {}, runs_dir=tmp_path, name="r").state == RunState.FAILED
    (tmp_path / "second-mended").touch()
    record = resume(tmp_path / "r")
    assert record.state == RunState.SUCCEEDED
    assert [(tmp_path / name).read_text() for name in ("first", "second", "last")] == ["x", "xx", "x"]
    assert not (tmp_path / "r/error.json").exists()
    assert (record.tasks["first"].attempts, record.tasks["fails"].attempts) == (1, 2)
    written = (tmp_path / "r/run.json").read_text()
    assert resume(tmp_path / "r").state == RunState.SUCCEEDED
    assert (tmp_path / "last").read_text() == "x"
    assert (tmp_path / "r/run.json").read_text() == written


def test_a_run_that_failed_inside_a_branch_goes_on_there(tmp_path: Path) -> None:
    spec = yaml.safe_load((Path(__file__).parent / "conditions.yaml").read_text())
    for executor in spec["deploymentSpec"]["executors"].values():
        program = executor["container"]["command"][2]
        if "len" not in program:
            executor["container"]["command"][2] = f"import os, sys\nif not os.path.exists({str(tmp_path / 'mended')!r}): sys.exit(1)\n{program}"
    assert run(read(yaml.safe_dump(spec), "x"), {"text": "abc"}, runs_dir=tmp_path, name="r").state == RunState.FAILED
    (tmp_path / "mended").touch()
    record = resume(tmp_path / "r")
    assert record.state == RunState.SUCCEEDED
    assert record.outputs.parameters == {"Output": "abc"}
    assert (record.tasks["measure"].attempts, record.tasks["condition-branches-1.condition-4.say-3"].attempts) == (1, 2)


def test_only_one_engine_works_on_a_run(tmp_path: Path) -> None:
    run(template({"t": Fake(script="sys.exit(1)")}), {}, runs_dir=tmp_path, name="r")
    with RunFolder(tmp_path / "r").locked(), pytest.raises(UserError, match="being worked on"):
        resume(tmp_path / "r")


def test_an_endpoint_is_started_by_the_engine_once_from_the_record_of_a_task(tmp_path: Path) -> None:
    started: list[object] = []
    options = Options(start_endpoint=started.append)
    deploy = Fake(script="open(given['endpoint'], 'w').write('{\"command\": []}')", makes={"endpoint": "google.VertexEndpoint"})
    off = Fake(script="open(given['endpoint'], 'w').write('{}')", makes={"endpoint": "google.VertexEndpoint"})
    elsewhere = Fake(script="open(given['endpoint'], 'w').write('{\"name\": \"7\"}')", makes={"endpoint": "google.VertexEndpoint"})
    fails = Fake(script="sys.exit(0 if os.path.exists(given['mended']) else 1)", takes={"mended": str(tmp_path / "mended")}, after=["deploy", "off"])
    run(template({"deploy": deploy, "off": off, "elsewhere": elsewhere, "fails": fails}), {}, runs_dir=tmp_path, name="r", options=options)
    (tmp_path / "mended").touch()
    assert resume(tmp_path / "r", options=options).state == RunState.SUCCEEDED
    assert started == [{"command": []}]


def test_html_outputs_are_put_where_a_browser_opens_them(tmp_path: Path) -> None:
    run(template({"t": Fake(script="open(given['report'], 'w').write('<!doctype html>')", makes={"report": "system.HTML"})}), {}, runs_dir=tmp_path, name="r")
    assert (tmp_path / "r/report.html").read_text() == "<!doctype html>"


def test_a_full_disk_ends_the_engine_with_13_and_the_run_can_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[RunRecord] = []

    def write_twice(folder: RunFolder, record: RunRecord) -> None:
        written.append(record)
        if len(written) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(folder, record)

    write = RunFolder.write
    with monkeypatch.context() as full_disk:
        full_disk.setattr(RunFolder, "write", write_twice)
        with pytest.raises(InfrastructureError, match="No space left"):
            run(template({"t": Fake(script="")}), {}, runs_dir=tmp_path, name="r")
    assert resume(tmp_path / "r").state == RunState.SUCCEEDED
