"""The locks: every file by its hash, the versions of constraints.txt, and nothing that no requirement asks for."""

import re
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from images.locks import common, equals, files_of, render
from images.roles import DEVICES, LOCKS, PREDICTOR, ROLES, ROOT, SHARED, TUNER, Lock, lock_of, normal, pinned

ENTRY = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+ \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+")
EVERY = pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.file.relative_to(ROOT).as_posix())
CONSTRAINTS = dict(pinned((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()))


def versions(file: Path) -> dict[str, str]:
    """By name."""
    return dict(pinned(file.read_text(encoding="utf-8").splitlines()))


def required(source: Path) -> list[Requirement]:
    """The requirements of a file and of the files that it includes."""
    found = []
    for line in source.read_text(encoding="utf-8").splitlines():
        line = line.partition("#")[0].strip()
        if line.startswith("-r "):
            found += required(source.parent / line.removeprefix("-r ").strip())
        elif line:
            found.append(Requirement(line))
    return found


def reachable(requirements: list[Requirement], excluded: set[str]) -> set[str]:
    """Names of all that the requirements ask for, by the metadata of what is installed here."""
    names: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(one.name), extra) for one in requirements for extra in ("", *one.extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in names or name in excluded:
            continue
        names.add((name, extra))
        for line in requires(name) or ():
            wanted = Requirement(line)
            if not wanted.marker or wanted.marker.evaluate({"extra": extra, "python_version": "3.11", "python_full_version": "3.11.9"}):
                waiting += [(canonicalize_name(wanted.name), more) for more in ("", *wanted.extras)]
    return {str(name) for name, _ in names}


@EVERY
def test_a_lock_is_names_versions_and_hashes_and_nothing_else(lock: Lock) -> None:
    text = lock.file.read_text(encoding="utf-8")
    entries = ENTRY.findall(text)
    assert "".join([text.splitlines(keepends=True)[0], *entries]) == text
    names = [entry.partition("==")[0] for entry in entries]
    assert names == sorted(set(names), key=normal)


@EVERY
def test_a_lock_has_the_versions_of_the_constraints(lock: Lock) -> None:
    found = versions(lock.file)
    differing = {name for name, version in found.items() if CONSTRAINTS.get(name, version) != version.partition("+")[0]}
    assert differing == set(lock.freed)
    if lock.device != "gpu":
        assert found.keys() <= CONSTRAINTS.keys()


@EVERY
def test_a_lock_has_what_is_required_and_not_what_is_excluded(lock: Lock) -> None:
    found = versions(lock.file)
    for requirement in required(lock.source):
        version = found[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version)
    assert not found.keys() & set(lock.excluded)


@pytest.mark.parametrize("lock", [lock for lock in LOCKS if lock.device != "gpu"], ids=lambda lock: lock.folder)
def test_nothing_is_in_a_lock_that_nobody_asks_for(lock: Lock) -> None:
    assert versions(lock.file).keys() == reachable(required(lock.source), set(lock.excluded))


def test_no_image_has_what_its_steps_do_not_use() -> None:
    base, tuner, predictor = (set(versions(lock_of(role, "cpu").file)) for role in ROLES.values())
    assert not base & {"torch", "transformers", "fastapi", "tensorboard", "rich", "sacrebleu", "rouge-score", "peft"}
    assert not tuner & {"fastapi", "uvicorn", "rich", "peft", "accelerate"}
    assert not predictor & {"tensorboard", "sacrebleu", "rouge-score", "nltk", "rich"}
    assert all("gcsfs" in names for names in (base, tuner, predictor))
    assert not (base | tuner | predictor) & {"pip", "pytest", "kfp", "ruff"}


def test_torch_has_cuda_on_a_gpu_and_only_there() -> None:
    for role in (TUNER, PREDICTOR):
        cpu, gpu = (versions(lock_of(role, device).file) for device in DEVICES)
        assert cpu["torch"] == f"{gpu['torch']}+cpu"
        assert "triton" in gpu
        assert any(name.startswith("nvidia-") for name in gpu)
        assert not any(name.startswith(("nvidia-", "cuda-", "triton")) for name in cpu)
    assert "vllm" in versions(lock_of(PREDICTOR, "gpu").file)


@pytest.mark.parametrize("device", DEVICES)
def test_the_shared_lock_is_what_both_have_in_common(device: str) -> None:
    locks = [next(lock for lock in LOCKS if (lock.folder, lock.device) == (role.name, device)).file for role in (TUNER, PREDICTOR)]
    entries = common(*(lock.read_text(encoding="utf-8") for lock in locks))
    assert SHARED[device].read_text(encoding="utf-8").partition("\n")[2] == "".join(entries)
    assert any(entry.startswith("torch==") for entry in entries)
    assert any(entry.startswith("setuptools==") for entry in entries), "rouge-score is built with it, in a later layer"


def test_common_compares_versions_and_hashes() -> None:
    one = "# head\na==1 \\\n    --hash=sha256:aa\nb==1 \\\n    --hash=sha256:bb\nc==1 \\\n    --hash=sha256:cc \\\n    --hash=sha256:dd\n"
    other = "# other\na==1 \\\n    --hash=sha256:aa\nb==2 \\\n    --hash=sha256:bb\nc==1 \\\n    --hash=sha256:cc\n"
    assert common(one, other) == ["a==1 \\\n    --hash=sha256:aa\n"]


def file(name: str, digest: str) -> dict[str, object]:
    return {"url": f"https://example.org/{name}", "hashes": {"sha256": digest}, "size": 1}


def test_only_files_for_the_images_are_locked() -> None:
    wheels = [
        file("p-1.0-cp311-cp311-manylinux_2_28_x86_64.whl", "fits"),
        file("p-1.0-cp311-cp311-manylinux_2_28_aarch64.whl", "other machine"),
        file("p-1.0-cp312-cp312-manylinux_2_28_x86_64.whl", "other Python"),
        file("p-1.0-cp311-cp311-manylinux_2_39_x86_64.whl", "newer C library"),
        file("p-1.0-cp311-cp311-macosx_11_0_arm64.whl", "other system"),
        file("p-1.0-py3-none-any.whl", "anywhere"),
    ]
    package = {"name": "p", "version": "1.0", "wheels": wheels, "sdist": file("p-1.0.tar.gz", "source")}
    assert [found["hashes"]["sha256"] for found in files_of(package)] == ["fits", "anywhere"]
    assert list(render([package])) == ["p==1.0 \\\n    --hash=sha256:anywhere \\\n    --hash=sha256:fits\n"]
    assert files_of({**package, "wheels": wheels[1:5]}) == [package["sdist"]]
    assert files_of({"name": "p", "version": "1", "wheels": [file("torch-2.13.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl", "x")]})


def test_a_gpu_never_gets_torch_without_cuda() -> None:
    gpu, cpu = (lock_of(TUNER, device) for device in ("gpu", "cpu"))
    assert (equals("torch", gpu), equals("torch", cpu), equals("numpy", gpu)) == ("===", "==", "==")
