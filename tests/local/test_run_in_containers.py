"""Whole runs in containers, on an engine whose containers are processes that belong to its daemon."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local.fake_engine import IMAGES, FakeEngine, fake_engine, flag
from tests.local.fake_pipelines import Fake, From, eventually, is_running, parent_of, pid_in, start_engine, states, template, write
from tests.local.test_stopping import NAMES, polite, resumed, stubborn
from tuneline.errors import UserError
from tuneline.local.engine import Options, resume, run
from tuneline.local.limits import Limits
from tuneline.local.run_record import RunRecord, RunState
from tuneline.local.task_containers import ContainerOptions
from tuneline.templates import Template

CONTAINERS = Options(grace_seconds=1.0, containers=ContainerOptions())


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    """A `docker` that works; nothing of a test may be left in it."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}{os.pathsep}{os.environ['PATH']}")
    with fake_engine(tmp_path / "docker", tmp_path / "programs") as engine:
        yield engine


def contained(tmp_path: Path, spec: Template, parameters: dict[str, object] | None = None, name: str = "r", **more: object) -> RunRecord:
    return run(spec, parameters or {}, runs_dir=tmp_path / "runs", name=name, options=Options(grace_seconds=1.0, **{"containers": ContainerOptions(), **more}))  # type: ignore[arg-type]


def mounts(arguments: list[str]) -> set[str]:
    """The mounted paths; read-only ones end in `:ro`."""
    fields = [value.split(",") for value in flag(arguments, "--mount")]
    return {field[1].removeprefix("src=") + (":ro" if "readonly" in field else "") for field in fields}


# The flow


def test_a_pipeline_runs_in_containers_as_it_does_in_processes(engine: FakeEngine, tmp_path: Path) -> None:
    make = Fake(
        script="os.mkdir(given['data']); open(given['data'] + '/x', 'w').write(given['text']); open(given['size'], 'w').write('2')",
        takes={"text": From("text")},
        puts={"size": "NUMBER_INTEGER"},
        makes={"data": "system.Dataset"},
    )
    use = Fake(
        script="open(given['out'], 'w').write(open(given['data'] + '/x').read() * int(given['size']))",
        takes={"size": From("make.size", "NUMBER_INTEGER")},
        reads={"data": "make.data"},
        puts={"out": "STRING"},
    )
    spec = template({"make": make, "use": use}, inputs={"text": str}, outputs={"result": "use.out"})
    record = contained(tmp_path, spec, {"text": "a b"})
    assert (record.state, record.outputs.parameters) == (RunState.SUCCEEDED, {"result": "a ba b"})
    written = json.loads((tmp_path / "runs/r/run.json").read_text())
    assert written["containers"] == {"engine": "docker", "images": {"fake:1": "sha256:aa11"}, "memoryBytes": 0, "cpus": 0.0}
    assert [flag(arguments, "--entrypoint") for arguments in engine.calls("run")] == [["python"], ["python"]]
    assert all("sha256:aa11" in arguments and "fake:1" not in arguments for arguments in engine.calls("run"))
    names = [flag(arguments, "--name")[0] for arguments in engine.calls("run")]
    assert len(set(names)) == 2
    assert [arguments[-1] for arguments in engine.calls("rm")] == names
    assert "$ docker run" in (tmp_path / "runs/r/logs/make.log").read_text()


def test_a_task_sees_what_it_needs_and_no_more(engine: FakeEngine, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret-token")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    data, output = tmp_path / "da ta:1.jsonl", tmp_path / "not/yet"
    data.touch()
    show = Fake(
        script="open(given['out'], 'w').write(json.dumps(dict(os.environ) | {'cwd': os.getcwd()}))", puts={"out": "STRUCT"}, environment={"KEY": "k-123"}
    )
    inputs = {"dataset_uri": "", "evaluation_output_root_dir": "", "catalog_uri": ""}
    record = contained(tmp_path, template({"t": show}, inputs=inputs), {"dataset_uri": str(data), "evaluation_output_root_dir": str(output)})
    attempt = tmp_path / "runs/r/tasks/t/attempt-1"
    seen = record.tasks["t"].outputs.parameters["out"]
    assert isinstance(seen, dict)
    del seen["PATH"], seen["LC_CTYPE"]
    assert seen == {
        "HOME": str(attempt),
        "USER": "tuneline",
        "TUNELINE_HOME": str(home),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "KEY": "k-123",
        "TUNELINE_PROGRESS_FILE": str(attempt / "progress.json"),
        "TUNELINE_ERROR_FILE": str(attempt / "error.json"),
        "cwd": str(attempt),
    }
    [arguments] = engine.calls("run")
    assert mounts(arguments) == {str(tmp_path / "runs/r"), str(home / "downloads"), f"{data}:ro", str(output)}
    assert output.is_dir()
    assert flag(arguments, "--network") == ["none"]
    assert not [argument for argument in arguments if "k-123" in argument]


def test_a_uri_elsewhere_opens_the_network_and_hands_on_what_it_takes(engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "key.json"
    key.touch()
    monkeypatch.setenv("HF_TOKEN", "secret-token")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    record = contained(
        tmp_path,
        template({"t": Fake(script="open(given['out'], 'w').write(os.environ['HF_TOKEN'])", puts={"out": "STRING"})}, inputs={"dataset_uri": ""}),
        {"dataset_uri": "gs://bucket/rows.jsonl"},
    )
    [arguments] = engine.calls("run")
    assert record.tasks["t"].outputs.parameters["out"] == "secret-token"
    assert flag(arguments, "--network") == []
    assert f"{key}:ro" in mounts(arguments)
    assert f"GOOGLE_APPLICATION_CREDENTIALS={key}" in flag(arguments, "--env")
    assert "secret-token" not in str(arguments) + (tmp_path / "runs/r/logs/t.log").read_text()


def test_an_artifact_of_an_earlier_run_is_mounted_read_only(engine: FakeEngine, tmp_path: Path) -> None:
    make = Fake(script="open(given['data'], 'w').write('x')", makes={"data": "system.Dataset"}, cached=True)
    use = Fake(script="open(given['out'], 'w').write(open(given['data']).read())", reads={"data": "make.data"}, puts={"out": "STRING"})
    spec = template({"make": make, "use": use})
    contained(tmp_path, spec, name="one")
    record = contained(tmp_path, spec, name="two")
    assert states(tmp_path / "runs/two") == {"make": "SKIPPED", "use": "SUCCEEDED"}
    assert record.tasks["use"].outputs.parameters == {"out": "x"}
    assert f"{tmp_path}/runs/one/tasks/make/attempt-1/data:ro" in mounts(engine.calls("run")[-1])


def test_a_new_image_under_the_old_name_is_a_new_task(engine: FakeEngine, tmp_path: Path) -> None:
    spec = template({"make": Fake(script="open(given['data'], 'w').write('x')", makes={"data": "system.Dataset"}, cached=True)})
    contained(tmp_path, spec, name="one")
    engine.set("images", IMAGES | {"fake:1": "sha256:cc33"})
    contained(tmp_path, spec, name="two")
    assert states(tmp_path / "runs/two") == {"make": "SUCCEEDED"}
    assert run(spec, {}, runs_dir=tmp_path / "runs", name="process").tasks["make"].state == "SUCCEEDED"


# How a task ends


@pytest.mark.parametrize(
    ("script", "code", "cause"),
    [
        ("sys.exit(1)", 1, "exit code 1"),
        ("sys.exit(13)", 13, "exit code 13"),
        ("os.kill(os.getpid(), 9)", 13, "SIGKILL"),
        ("os.kill(os.getpid(), 11)", 13, "SIGSEGV"),
    ],
)
def test_a_run_ends_with_the_code_of_the_command_in_the_container(script: str, code: int, cause: str, engine: FakeEngine, tmp_path: Path) -> None:
    record = contained(tmp_path, template({"t": Fake(script=script)}))
    assert record.exit_code == code
    assert record.error is not None
    assert cause in record.error.cause


def test_a_task_that_may_have_met_its_memory_limit_is_told_which_flag_raises_it(engine: FakeEngine, tmp_path: Path) -> None:
    limited = ContainerOptions(limits=Limits(memory_bytes=1 << 30))
    record = contained(tmp_path, template({"t": Fake(script="os.kill(os.getpid(), 9)")}), containers=limited)
    assert record.error is not None
    assert "--container-memory" in record.error.next_action
    assert flag(engine.calls("run")[0], "--memory") == ["1073741824b"]


def test_the_engine_s_own_words_tell_why_a_container_could_not_be_made(engine: FakeEngine, tmp_path: Path) -> None:
    engine.set("refusal", "docker: Error response from daemon: runc: cannot set memory limit: no such cgroup.")
    record = contained(tmp_path, template({"t": Fake(script="")}))
    assert record.exit_code == 13
    assert record.error is not None
    assert record.error.cause == "t: docker could not run the container: docker: Error response from daemon: runc: cannot set memory limit: no such cgroup."
    assert "--container-memory" in record.error.next_action


# Before anything starts


def test_all_missing_images_are_named_and_no_task_starts(engine: FakeEngine, tmp_path: Path) -> None:
    engine.set("images", {})
    spec = template({"a": Fake(script=""), "b": Fake(script="")})
    executors = spec.spec["deploymentSpec"]["executors"]  # type: ignore[index, call-overload]
    executors["exec-b"]["container"]["image"] = "registry.example.com/gone:2"  # type: ignore[index, call-overload]
    with pytest.raises(UserError) as error:
        contained(tmp_path, spec)
    assert error.value.problems == (
        "docker has no image fake:1.",
        "docker has no image registry.example.com/gone:2: Error: manifest for registry.example.com/gone:2 not found",
    )
    assert "make images" in error.value.next_action
    assert engine.calls("pull") == [["pull", "--quiet", "registry.example.com/gone:2"]]
    assert not (tmp_path / "runs").exists()


def test_an_image_with_a_registry_is_pulled_when_it_is_not_here(engine: FakeEngine, tmp_path: Path) -> None:
    engine.set("registry", {"registry.example.com/new:1": "sha256:dd44"})
    spec = template({"a": Fake(script="")})
    spec.spec["deploymentSpec"]["executors"]["exec-a"]["container"]["image"] = "registry.example.com/new:1"  # type: ignore[index, call-overload]
    record = contained(tmp_path, spec)
    assert record.state == RunState.SUCCEEDED
    assert record.containers is not None
    assert record.containers.images == {"registry.example.com/new:1": "sha256:dd44"}


def test_a_limit_of_the_template_holds_unless_another_is_asked_for(engine: FakeEngine, tmp_path: Path) -> None:
    spec = template({"a": Fake(script="", takes={"memory": From("memory")})}, inputs={"memory": "2Gi"})
    container = spec.spec["deploymentSpec"]["executors"]["exec-a"]["container"]  # type: ignore[index, call-overload]
    container["resources"] = {"resourceMemoryLimit": "{{$.inputs.parameters['memory']}}", "cpuLimit": 1.5, "resourceCpuLimit": "1500m"}  # type: ignore[index, call-overload]
    contained(tmp_path, spec, name="one")
    contained(tmp_path, spec, name="two", containers=ContainerOptions(limits=Limits(cpus=0.5)))
    assert [(flag(call, "--memory"), flag(call, "--cpus")) for call in engine.calls("run")] == [
        (["2147483648b"], ["1.5"]),
        (["2147483648b"], ["0.5"]),
    ]
    record = contained(tmp_path, spec, {"memory": "much"}, name="three")
    assert record.error is not None
    assert "'much' is not a size of memory" in record.error.cause


def test_a_limit_that_the_engine_would_drop_is_refused(engine: FakeEngine, tmp_path: Path) -> None:
    engine.set("info", {"MemoryLimit": False, "CpuCfsQuota": False})
    contained(tmp_path, template({"a": Fake(script="")}), name="without")
    with pytest.raises(UserError, match="docker cannot limit memory on this machine") as error:
        contained(tmp_path, template({"a": Fake(script="")}), containers=ContainerOptions(limits=Limits(memory_bytes=1, cpus=1)))
    assert len(error.value.problems) == 2


# Signals


def start(tmp_path: Path, file: Path, *more: str) -> "subprocess.Popen[str]":
    return start_engine(file, tmp_path / "runs", "--name", "r", "--containers", *more)


def test_a_stopped_run_lets_its_task_save_and_goes_on_with_the_same_images(engine: FakeEngine, tmp_path: Path) -> None:
    process = start(tmp_path, polite(tmp_path))
    pid_in(tmp_path / "main")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 75
    assert engine.containers() == []
    assert states(tmp_path / "runs/r") == {"first": "SUCCEEDED", "long": "CANCELLED"}
    engine.set("images", {"fake:1": "sha256:new", "old": "sha256:aa11"})
    assert resumed(tmp_path)["state"] == "PIPELINE_STATE_SUCCEEDED"
    assert [(tmp_path / name).read_text() for name in ("first", "saved", "again")] == ["x", "x", "x"]
    assert [("sha256:aa11" in call) for call in engine.calls("run")] == [True, True, True]


def test_a_container_has_its_grace_and_then_ends(engine: FakeEngine, tmp_path: Path) -> None:
    process = start(tmp_path, stubborn(tmp_path), "--grace", "0.5")
    pids = [pid_in(tmp_path / name) for name in NAMES[:2]]
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert time.monotonic() - begin >= 0.5
    assert process.returncode == 75
    assert engine.containers() == []
    eventually(lambda: not [pid for pid in pids if is_running(pid)])
    os.kill(pid_in(tmp_path / "far"), signal.SIGKILL)  # a real container would end it, too


def test_a_second_signal_ends_a_container_at_once(engine: FakeEngine, tmp_path: Path) -> None:
    script = polite(tmp_path).read_text().replace("sys.exit(75)", "None")
    (tmp_path / "p.yaml").write_text(script)
    process = start(tmp_path, tmp_path / "p.yaml", "--grace", "300")
    pid = pid_in(tmp_path / "main")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert any("Stopping" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert engine.containers() == []
    assert not is_running(pid)


def test_when_the_engine_is_killed_the_container_ends(engine: FakeEngine, tmp_path: Path) -> None:
    process = start(tmp_path, polite(tmp_path))
    pid = pid_in(tmp_path / "main")
    process.kill()
    process.communicate(timeout=30)
    eventually(lambda: not is_running(pid) and engine.containers() == [])
    (tmp_path / "saved").touch()
    assert resumed(tmp_path)["state"] == "PIPELINE_STATE_SUCCEEDED"


@pytest.mark.parametrize("generations", [1, 2], ids=["command line", "supervisor"])
def test_when_what_waits_for_the_container_is_killed_the_container_ends(generations: int, engine: FakeEngine, tmp_path: Path) -> None:
    process = start(tmp_path, polite(tmp_path))
    pid = pid_in(tmp_path / "main")
    command_line = _waiting_for(engine.calls("run")[-1])
    os.kill(command_line if generations == 1 else parent_of(command_line), signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == 13
    assert engine.containers() == []
    assert not is_running(pid)


def test_what_a_killed_engine_and_supervisor_left_is_removed_when_the_run_goes_on(engine: FakeEngine, tmp_path: Path) -> None:
    process = start(tmp_path, polite(tmp_path))
    pid = pid_in(tmp_path / "main")
    supervisor = parent_of(_waiting_for(engine.calls("run")[-1]))
    os.kill(supervisor, signal.SIGSTOP)
    process.kill()
    process.communicate(timeout=30)
    os.kill(supervisor, signal.SIGKILL)
    assert is_running(pid)
    (tmp_path / "saved").touch()
    assert resume(tmp_path / "runs/r", options=CONTAINERS).state == RunState.SUCCEEDED
    assert not is_running(pid)


def test_a_container_that_appears_after_everything_was_stopped_is_removed(engine: FakeEngine, tmp_path: Path) -> None:
    engine.set("creation_seconds", 0.4)
    process = start(tmp_path, write(tmp_path / "p.yaml", {"t": Fake(script="")}))
    eventually((engine.state / "creating").exists)
    process.kill()
    process.communicate(timeout=30)
    assert engine.containers() == []
    eventually(lambda: engine.containers() != [])
    eventually(lambda: engine.containers() == [])


# Going on


def test_a_resumed_run_may_be_given_more_memory(engine: FakeEngine, tmp_path: Path) -> None:
    spec = template({"t": Fake(script=f"sys.exit(0 if os.path.exists({str(tmp_path / 'mended')!r}) else 13)")})
    contained(tmp_path, spec, containers=ContainerOptions(limits=Limits(memory_bytes=1 << 20, cpus=1)))
    (tmp_path / "mended").touch()
    record = resume(tmp_path / "runs/r", options=Options(containers=ContainerOptions(limits=Limits(memory_bytes=1 << 30))))
    assert record.state == RunState.SUCCEEDED
    assert record.containers is not None
    assert record.containers.limits == Limits(memory_bytes=1 << 30, cpus=1)
    assert flag(engine.calls("run")[-1], "--memory") == ["1073741824b"]


def test_a_run_whose_image_is_gone_does_not_go_on_with_another(engine: FakeEngine, tmp_path: Path) -> None:
    contained(tmp_path, template({"t": Fake(script="sys.exit(13)")}))
    engine.set("images", {"fake:1": "sha256:new"})
    with pytest.raises(UserError, match="docker no longer has sha256:aa11, the fake:1 that this run began with"):
        resume(tmp_path / "runs/r")


def test_a_run_in_processes_has_nothing_to_limit(tmp_path: Path) -> None:
    run(template({"t": Fake(script="sys.exit(13)")}), {}, runs_dir=tmp_path / "runs", name="r")
    with pytest.raises(UserError, match="was not begun in containers"):
        resume(tmp_path / "runs/r", options=CONTAINERS)


def _waiting_for(arguments: list[str]) -> int:
    """The process id of the command line that waits for a container."""
    name = flag(arguments, "--name")[0].encode()
    found = [int(entry.parent.name) for entry in Path("/proc").glob("[0-9]*/cmdline") if name in entry.read_bytes() and b"fake_docker" in entry.read_bytes()]
    assert len(found) == 1
    return found[0]
