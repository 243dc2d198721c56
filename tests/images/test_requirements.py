"""What a role's steps import is what its requirements.in asks for: nothing is missing, nothing is too much."""

import functools
import json
import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest

from images.roles import BASE, PREDICTOR, ROLES, ROOT, TUNER, Role, lock_of, normal, pinned

ALL = pytest.mark.parametrize("role", ROLES.values(), ids=ROLES)
GPU_ONLY = {"vllm"}
"""Imported where there is a GPU, and not installed here."""
NAMESPACE = {"google.auth": "google-auth", "google.cloud.storage": "google-cloud-storage"}
"""What is imported of a package that many distributions share -> the distribution that brings it."""


@functools.cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("tuneline", include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None)


def upstream(role: Role) -> tuple[set[str], set[str]]:
    """Our modules that a role's steps import, directly or not, wherever the import stands; and the foreign ones."""
    found = set(role.modules).union(*(graph().find_upstream_modules(module) for module in role.modules))
    ours = {module for module in found if module.partition(".")[0] == "tuneline"}
    foreign = {module for module in found - ours if module not in sys.stdlib_module_names}
    return ours, foreign - {"google"} | (NAMESPACE.keys() if "google" in foreign else set())


def requirements(file: Path) -> dict[str, str]:
    """Name -> comment."""
    lines = [line.partition("#") for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith(("#", "-r"))]
    return {normal(name.partition("==")[0].strip()): comment.strip() for name, _, comment in lines}


def distribution(module: str) -> str:
    """The distribution that brings a module."""
    return NAMESPACE.get(module) or normal(packages_distributions().get(module, [module])[0])


@ALL
def test_what_is_imported_is_required_and_the_reverse(role: Role) -> None:
    required = requirements(ROOT / "images" / role.name / "requirements.in")
    _, foreign = upstream(role)
    imported = {distribution(module) for module in foreign - GPU_ONLY}
    assert imported - required.keys() == set(), "imported, but not required"
    indirect = {name for name in required.keys() - imported if "imported by" in required[name]}
    assert required.keys() - imported - indirect == set(), "required, but not imported"
    assert indirect == {BASE: set(), TUNER: {"tensorboard"}, PREDICTOR: {"psutil"}}[role]


def test_the_gpu_predictor_adds_its_engine() -> None:
    assert requirements(ROOT / "images/predictor/requirements-gpu.in").keys() == GPU_ONLY
    assert upstream(PREDICTOR)[1] >= GPU_ONLY


@ALL
def test_the_steps_start_with_nothing_but_the_lock(role: Role) -> None:
    """All modules, and what they import late, in a process that finds only the distributions of the lock."""
    ours, foreign = upstream(role)
    names = [name for name, _ in pinned(lock_of(role, "cpu").file.read_text(encoding="utf-8").splitlines())]
    modules = sorted((ours | foreign) - GPU_ONLY)
    program = [sys.executable, str(Path(__file__).with_name("only_these.py")), json.dumps({"modules": modules, "distributions": names})]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(program, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert {"pytest", "kfp"} <= set(found["hidden"])
    assert not set(found["hidden"]) & set(found["loaded"])
    loaded = {distribution(module) for module in [*found["loaded"], *(foreign & NAMESPACE.keys())]}
    assert requirements(ROOT / "images" / role.name / "requirements.in").keys() <= loaded
    if role is BASE:
        assert not loaded & {"torch", "transformers", "rich"}


def test_a_module_that_the_lock_lacks_is_noticed() -> None:
    program = [sys.executable, str(Path(__file__).with_name("only_these.py")), json.dumps({"modules": ["orjson"], "distributions": ["numpy"]})]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert "No module named 'orjson'" in done.stderr
