"""The command line of a container, as a table."""

import pytest

from tuneline.errors import ParameterError
from tuneline.local.containers import (
    ContainerEngine,
    Mount,
    TaskContainer,
    User,
    container_name,
    exit_code,
    mount_arguments,
    removal_commands,
    run_arguments,
    split_environment,
    user_arguments,
)
from tuneline.local.limits import Limits

DOCKER, PODMAN = ContainerEngine(name="docker"), ContainerEngine(name="podman")
ME = User(uid=1000, gid=100, groups=(44, 100))
LEAST = TaskContainer(name="n", run_label="r", image="sha256:1", command=["python", "-m", "step", "--x", "a b"], folder="/w")


def test_a_container_is_strict_by_default() -> None:
    assert " ".join(run_arguments(DOCKER, LEAST, ME)) == (
        "docker run --name n --label tuneline.run=r --pull never --log-driver none --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges"
        " --user 1000:100 --group-add 44 --pids-limit 4096 --shm-size 1073741824b --stop-timeout 25 --network none"
        " --workdir /w --entrypoint python sha256:1 -m step --x a b"
    )
    assert run_arguments(DOCKER, LEAST, ME)[-1] == "a b"


@pytest.mark.parametrize(
    ("engine", "change", "added"),
    [
        (DOCKER, {"limits": Limits(memory_bytes=64_000_000, cpus=1.5)}, "--memory 64000000b --cpus 1.5"),
        (DOCKER, {"limits": Limits(cpus=16.0)}, "--cpus 16"),
        (DOCKER, {"mounts": [Mount("/a"), Mount("/b", writable=True)]}, "--mount type=bind,src=/a,dst=/a,readonly --mount type=bind,src=/b,dst=/b"),
        (DOCKER, {"settings": {"A": "1"}, "passed": ["SECRET"]}, "--env A=1 --env SECRET"),
        (DOCKER, {"gpus": True}, "--gpus all --env NVIDIA_DRIVER_CAPABILITIES=compute,utility"),
        (PODMAN, {"gpus": True}, "--device nvidia.com/gpu=all --env NVIDIA_DRIVER_CAPABILITIES=compute,utility"),
        (DOCKER, {"stop_seconds": 0.5}, "--stop-timeout 1"),
        (ContainerEngine(name="docker", has_init=True), {}, "--init"),
        (ContainerEngine(name="podman", labels_files=True), {}, "--security-opt label=disable"),
        (ContainerEngine(name="podman", rootless=True), {}, "--userns keep-id --user 1000:100"),
    ],
    ids=lambda value: repr(value) if isinstance(value, str) else type(value).__name__,
)
def test_what_is_asked_for_is_on_the_command_line(engine: ContainerEngine, change: dict[str, object], added: str) -> None:
    arguments = run_arguments(engine, TaskContainer(**{**vars(LEAST), **change}), ME)  # type: ignore[arg-type]
    assert f" {added} " in " ".join(arguments)
    assert added not in " ".join(run_arguments(DOCKER, LEAST, ME))


def test_only_a_task_that_needs_it_has_the_network() -> None:
    assert "--network" not in run_arguments(DOCKER, TaskContainer(**{**vars(LEAST), "network": True}), ME)


def test_a_limit_that_cannot_be_set_is_not_asked_for_by_default() -> None:
    assert "--pids-limit" not in run_arguments(ContainerEngine(name="podman", enforces=frozenset()), LEAST, ME)


@pytest.mark.parametrize(
    ("engine", "arguments"),
    [
        (DOCKER, "--user 1000:100 --group-add 44"),
        (PODMAN, "--user 1000:100 --group-add 44"),
        (ContainerEngine(name="podman", rootless=True), "--userns keep-id --user 1000:100"),
        (ContainerEngine(name="docker", rootless=True), "--user 0:0"),
        (ContainerEngine(name="docker", remapped=True), "--userns host --user 1000:100 --group-add 44"),
    ],
    ids=lambda value: repr(value) if isinstance(value, str) else type(value).__name__,
)
def test_files_belong_to_the_caller_under_every_engine(engine: ContainerEngine, arguments: str) -> None:
    assert " ".join(user_arguments(engine, ME)) == arguments


@pytest.mark.parametrize("path", ["/a b", "/a:b", "/a=b", "/é 漢", "/$HOME'x"])
@pytest.mark.parametrize("engine", [DOCKER, PODMAN])
def test_a_path_is_mounted_by_fields_where_it_can(engine: ContainerEngine, path: str) -> None:
    assert mount_arguments(engine, Mount(path)) == ["--mount", f"type=bind,src={path},dst={path},readonly"]


@pytest.mark.parametrize("path", ["/a,b", '/a"b', "/a\nb"])
def test_a_path_with_a_comma_is_mounted_by_the_older_flag(path: str) -> None:
    assert mount_arguments(DOCKER, Mount(path)) == ["--volume", f"{path}:{path}:ro"]
    assert mount_arguments(PODMAN, Mount(path, writable=True)) == ["--volume", f"{path}:{path}"]
    with pytest.raises(ParameterError, match="cannot mount a path that has both a colon and a comma"):
        mount_arguments(DOCKER, Mount(f"{path}:x"))


@pytest.mark.parametrize(
    ("code", "meant"), [(0, 0), (1, 1), (75, 75), (125, 125), (128, 128), (130, -2), (137, -9), (139, -11), (143, -15), (255, 255), (-9, -9)]
)
def test_signals_in_a_container_are_told_as_those_of_a_process(code: int, meant: int) -> None:
    assert exit_code(code) == meant


def test_a_container_s_name_is_its_attempt_s_alone() -> None:
    name = container_name("/runs/r", "outer.in ner", "attempt-1")
    assert name == container_name("/runs/r", "outer.in ner", "attempt-1")
    assert name.endswith("-outer.in-ner")
    others = [("/runs/s", "outer.in ner", "attempt-1"), ("/runs/r", "outer.in ner", "attempt-2"), ("/runs/r", "outer.in-ner", "attempt-1")]
    assert len({name, *(container_name(*other) for other in others)}) == 4
    assert removal_commands(PODMAN, "n") == [["podman", "kill", "n"], ["podman", "rm", "--force", "n"]]


def test_a_task_s_variables_never_change_what_the_engine_s_command_line_does() -> None:
    harmless = {"KEY": "k", "GOOGLE_CLOUD_PROJECT": "p", "HOMEPAGE": "h"}
    telling = {"HOME": "/h", "PATH": "/p", "LD_PRELOAD": "x.so", "DOCKER_HOST": "tcp://x", "CONTAINERS_CONF": "/c", "XDG_RUNTIME_DIR": "/x", "GODEBUG": "1"}
    assert split_environment({**harmless, **telling}) == (telling, harmless)
