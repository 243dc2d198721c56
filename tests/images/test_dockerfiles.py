"""The Dockerfiles keep the rules of docs/images.md, and each image holds the steps that the templates start in it."""

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from images.roles import BASE, LOCKS, PREDICTOR, ROLES, ROOT, SHARED, TUNER, Role
from tuneline import __version__
from tuneline.launching.order import COMMAND

ALL = pytest.mark.parametrize("role", ROLES.values(), ids=ROLES)
PINNED = re.compile(r"ARG BASE_IMAGE=python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}")


def instructions(role: Role) -> list[tuple[str, str]]:
    """Instruction and argument of every line that is no comment."""
    lines = role.dockerfile.read_text(encoding="utf-8").splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line and not line.startswith("#")]


def last(role: Role, instruction: str) -> str:
    """The argument of the last instruction of a kind."""
    return [argument for kind, argument in instructions(role) if kind == instruction][-1]


@ALL
def test_a_dockerfile_is_short(role: Role) -> None:
    text = role.dockerfile.read_text(encoding="utf-8")
    assert 8 <= len(text.splitlines()) <= 15
    assert "\\\n" not in text
    assert all(argument.count("&&") <= 1 and ";" not in argument for kind, argument in instructions(role) if kind == "RUN")


@ALL
def test_the_base_image_is_a_digest_that_may_be_replaced(role: Role) -> None:
    assert PINNED.fullmatch(" ".join(instructions(role)[0]))
    assert last(role, "ARG") or role is BASE
    sources = [argument.split(" ")[0] for kind, argument in instructions(role) if kind == "FROM"]
    stages = [argument.split(" AS ")[1] for kind, argument in instructions(role) if kind == "FROM" and " AS " in argument]
    assert len(sources) > 1, "one stage only"
    assert set(sources) <= {"${BASE_IMAGE}", *stages}
    assert "latest" not in role.dockerfile.read_text(encoding="utf-8")


def test_all_have_the_same_base_image() -> None:
    assert len({instructions(role)[0] for role in ROLES.values()}) == 1


@ALL
def test_a_step_runs_as_a_user_without_name_and_without_pip(role: Role) -> None:
    text = role.dockerfile.read_text(encoding="utf-8")
    final = text.rpartition("\nFROM ")[2]
    assert "\nUSER 10001:10001\n" in final
    assert "RUN" not in final
    assert "venv --without-pip /opt/tuneline" in text


@ALL
def test_packages_come_from_the_lock_with_their_hashes(role: Role) -> None:
    installs = re.findall(r"pip .*? install (.*?)(?: && |$)", role.dockerfile.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(installs) >= 2
    for options in installs:
        assert "--no-deps" in options
        assert options.endswith("/build/*.whl") or "--require-hashes" in options
    assert not re.search(r"curl|wget|apt|^ADD", role.dockerfile.read_text(encoding="utf-8"), flags=re.MULTILINE)


@ALL
def test_the_labels_say_what_it_is(role: Role) -> None:
    labels = dict(re.findall(r'(\S+)="([^"]*)"', last(role, "LABEL")))
    assert labels == {"org.opencontainers.image.title": f"tuneline/{role.name}", "org.opencontainers.image.licenses": "Apache-2.0"}


def test_tuner_and_predictor_share_their_first_stage() -> None:
    stages = [[line for line in role.dockerfile.read_text(encoding="utf-8").splitlines() if line[0] != "#"] for role in (TUNER, PREDICTOR)]
    first, second = (stage[: stage.index("FROM shared AS role")] for stage in stages)
    assert first == second
    assert len(first) >= 5


def test_the_predictor_starts_and_checks_itself_without_a_shell() -> None:
    flags, _, health = last(PREDICTOR, "HEALTHCHECK").partition("CMD ")
    assert "--start-period=" in flags
    for command in (json.loads(last(PREDICTOR, "ENTRYPOINT")), json.loads(health)):
        assert command[:2] == ["python", "-m"]
        assert command[2] in PREDICTOR.modules
        assert importlib.util.find_spec(command[2])


def containers() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every container of the compiled templates."""
    for path in sorted((ROOT / "compiled").rglob("*.yaml")):
        for executor in yaml.safe_load(path.read_text(encoding="utf-8"))["deploymentSpec"]["executors"].values():
            yield path.name, executor["container"]


def test_the_templates_find_their_steps_in_the_images() -> None:
    seen = set()
    for template, container in containers():
        name = re.fullmatch(rf"tuneline/([a-z-]+):{re.escape(__version__)}", container["image"])
        assert name, f"{template}: {container['image']}"
        assert container["command"][:2] == ["python", "-m"]
        assert container["command"][2] in ROLES[name[1]].modules, template
        seen.add(container["command"][2])
    assert {*seen, COMMAND[2]} == {*BASE.modules, *TUNER.modules}  # the launched job's command is in no template


def test_the_build_context_is_locks_and_wheels() -> None:
    lines = [line for line in Path(ROOT, ".dockerignore").read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    folders = sorted({lock.file.parent.name for lock in LOCKS} | {file.parent.name for file in SHARED.values()})
    assert lines == ["*", "!dist/images/*.whl", *(f"!images/{folder}/requirements*.txt" for folder in folders)]
    copied = {source for role in ROLES.values() for kind, argument in instructions(role) if kind == "COPY" for source in argument.split(" ")[:-1]}
    assert all(re.fullmatch(r"--from=\w+|/opt/\w+|images/[a-z-]+/requirements(-\$\{\w+\})?\.txt|dist/images/\*\.whl", source) for source in copied), copied
