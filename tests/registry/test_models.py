import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.registry.made_up import CONTENT, registered, registration, write_checkpoint
from tuneline.errors import InfrastructureError, ModelError, NotFoundError
from tuneline.registry import files, models, resource_id
from tuneline.registry.files import hashed_files
from tuneline.registry.models import Registration, register


def test_a_registered_model_is_a_copy_of_the_checkpoint_with_its_hashes(tmp_path: Path) -> None:
    version = registered(tmp_path)
    assert {name: (version.artifact_folder / name).read_bytes() for name in CONTENT} == CONTENT
    assert version.files["config.json"].bytes == len(CONTENT["config.json"])
    assert json.loads((version.artifact_folder / "COMMIT.json").read_text())["files"].keys() == CONTENT.keys()
    version.verify()


def test_an_id_has_19_digits_and_is_a_64_bit_number_which_google_s_clients_read_some_of_them_as() -> None:
    ids = [resource_id("a", str(number)) for number in range(1000)]
    assert {len(identifier) for identifier in ids} == {19}
    assert max(map(int, ids)) < 2**63


def test_no_file_is_shared_with_the_run_so_that_damage_there_stays_there(tmp_path: Path) -> None:
    version = registered(tmp_path)
    source = tmp_path / "checkpoint of job-1" / "config.json"
    source.write_bytes(b"damaged")
    version.verify()
    assert (version.artifact_folder / "config.json").read_bytes() == CONTENT["config.json"]


def test_the_names_are_those_of_vertex(tmp_path: Path) -> None:
    version = registered(tmp_path)
    assert re.fullmatch(r"projects/acme/locations/local/models/\d{19}@1", version.resource_name)
    assert version.labels == {"google-vertex-llm-tuning-base-model-id": "code-bison-002", "tune-type": "sft", "tuneline-run": "job-1"}
    record = version.to_json()
    assert record["versionAliases"] == ["default"]
    assert record["versionId"] == "1"
    assert record["metrics"] == {"token_accuracy": 0.5}


def test_a_reference_with_a_publisher_becomes_a_valid_label(tmp_path: Path) -> None:
    version = register(write_checkpoint(tmp_path / "c"), registration("Tune It! 2024", base_model="meta/Llama3_1@llama-3.1-8b"))
    assert version.labels["google-vertex-llm-tuning-base-model-id"] == "meta-llama3_1-llama-3-1-8b"
    assert version.labels["tuneline-run"] == "tune-it--2024"


def test_the_same_job_registers_once_and_another_job_makes_the_next_version(tmp_path: Path) -> None:
    first, again, second = registered(tmp_path), registered(tmp_path), registered(tmp_path, "job-2")
    assert again.resource_name == first.resource_name
    assert second.resource_name == f"{first.name}@2"
    assert [version.is_default for version in models.list_versions()] == [True, False]


def test_a_run_name_that_is_used_again_for_other_weights_makes_the_next_version(tmp_path: Path) -> None:
    first = registered(tmp_path)
    other = write_checkpoint(tmp_path / "other", {"config.json": b"{}", "model.safetensors": b"other weights"})
    second = models.register(other, first.registration)
    assert second.resource_name == f"{first.name}@2"
    assert (second.artifact_folder / "model.safetensors").read_bytes() == b"other weights"


def test_another_name_or_region_is_another_model(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c")
    ids = {register(checkpoint, registration("j", name, location=location)).model_id for name in "ab" for location in ("local", "us-central1")}
    assert len(ids) == 4


def test_eight_at_once_for_one_job_make_one_version(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c")
    with ThreadPoolExecutor(8) as pool:
        names = {version.resource_name for version in pool.map(lambda _: register(checkpoint, registration()), range(8))}
    assert len(names) == 1
    assert len(models.list_versions()) == 1


def test_eight_jobs_at_once_make_eight_versions(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c")
    with ThreadPoolExecutor(8) as pool:
        names = {version.resource_name for version in pool.map(lambda job: register(checkpoint, registration(f"job-{job}")), range(8))}
    assert {name.rpartition("@")[2] for name in names} == {str(number) for number in range(1, 9)}


def test_processes_wait_for_each_other_too(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c")
    program = "import sys; from pathlib import Path; from tests.registry.made_up import registration; from tuneline.registry.models import register; " \
        "print(register(Path(sys.argv[1]), registration()).resource_name)"  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(checkpoint)], stdout=subprocess.PIPE, text=True, env=environment, cwd=Path(__file__).parents[2])
        for _ in range(4)
    ]
    assert {process.communicate()[0] for process in running} == {models.list_versions()[0].resource_name + "\n"}
    assert len(models.list_versions()) == 1


class Crash(BaseException):
    """The process ends here."""


def crash_after(calls: int, function: Callable[..., object]) -> Callable[..., object]:
    """`function`, but the process ends right after this call of it; with 0 right before the first."""
    left = [calls]

    def crashing(*args: object, **kwargs: object) -> object:
        if left[0] == 0:
            raise Crash
        result = function(*args, **kwargs)
        left[0] -= 1
        if left[0] == 0:
            raise Crash
        return result

    return crashing


POINTS = [
    *((models, "copy_verified", calls) for calls in range(2)),
    *((models, "write_json", calls) for calls in range(3)),
    *((Path, "rename", calls) for calls in range(2)),
    *((files, "flush_folder", calls) for calls in range(4)),
]


@pytest.mark.parametrize(("owner", "name", "calls"), POINTS)
def test_a_crash_anywhere_leaves_no_half_version_and_no_second_one(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, calls: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, crash_after(calls, getattr(owner, name)))
        with pytest.raises(Crash):
            registered(tmp_path)
    for version in models.list_versions():
        version.verify()
    version = registered(tmp_path)
    version.verify()
    assert [known.resource_name for known in models.list_versions()] == [version.resource_name]
    assert version.version == 1
    assert not list(home.rglob(".incoming*"))


def replace_by_pipe(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").write_bytes(b'{"architectures": {}}'), "content has changed"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"short"), "5 bytes; expected 8000"),
        (lambda folder: (folder / "shards/two.safetensors").unlink(), "missing"),
        (lambda folder: (folder / "COMMIT.json").unlink(), "no COMMIT.json"),
        (lambda folder: (folder / "COMMIT.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "COMMIT.json").write_text('{"files": {}}'), "no files"),
        (lambda folder: (folder / "COMMIT.json").write_text('{"files": {"../x": {"sha256": "", "bytes": 0}}}'), "below the checkpoint's folder"),
        (lambda folder: ((folder / "config.json").rename(folder / "c"), (folder / "config.json").symlink_to("c")), "symbolic link"),
        (replace_by_pipe, "not a regular file"),
    ],
)
def test_a_damaged_checkpoint_is_refused_by_name_and_registers_nothing(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    checkpoint = write_checkpoint(tmp_path / "c")
    damage(checkpoint)
    with pytest.raises(ModelError, match=re.escape(message)):
        register(checkpoint, registration())
    assert models.list_versions() == []


def test_a_full_disk_registers_nothing_and_may_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(InfrastructureError, match="No space left on device; the model is not registered"):
            registered(tmp_path)
    assert models.list_versions() == []
    registered(tmp_path).verify()


def test_damage_in_the_registry_is_noticed_when_the_job_registers_again(tmp_path: Path) -> None:
    version = registered(tmp_path)
    (version.artifact_folder / "model.safetensors").write_bytes(b"x" * 8000)
    with pytest.raises(ModelError, match=r"model\.safetensors: content has changed"):
        registered(tmp_path)


def test_a_model_is_found_by_any_of_its_names(tmp_path: Path) -> None:
    first, second = registered(tmp_path), registered(tmp_path, "job-2")
    for name in ("My model", second.name, second.resource_name, second.model_id, "latest", "My model@2", "My model@default"):
        assert models.get(name).resource_name == second.resource_name
    for name in ("My model@1", first.resource_name, f"{first.model_id}@1"):
        assert models.get(name).resource_name == first.resource_name


def test_an_unknown_model_is_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no model 'latest'"):
        models.get("latest")
    registered(tmp_path)
    with pytest.raises(NotFoundError, match="Did you mean 'My model'"):
        models.get("My modle")
    with pytest.raises(NotFoundError):
        models.get("My model@3")


def test_models_are_filtered_by_label_as_on_vertex(tmp_path: Path) -> None:
    registered(tmp_path)
    register(write_checkpoint(tmp_path / "t"), registration("job-t", "Text", base_model="text-bison@002"))
    found = models.list_versions({"google-vertex-llm-tuning-base-model-id": "text-bison-002"})
    assert [version.registration.display_name for version in found] == ["Text"]
    assert len(models.list_versions({"tune-type": ""})) == 2
    assert models.list_versions({"owner": ""}) == []


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    version = registered(tmp_path)
    (version.folder / "record.json").write_text('{"project": ')
    with pytest.raises(InfrastructureError, match=r"record\.json: not JSON"):
        models.list_versions()
    (version.folder / "record.json").write_text('{"create_time": "", "files": {}, "colour": ""}')
    with pytest.raises(InfrastructureError, match="colour"):
        models.list_versions()


def test_a_folder_without_a_marker_is_registered_with_the_files_that_are_wanted(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c")
    (folder / "COMMIT.json").unlink()
    version = register(folder, registration(), hashed_files(folder, ["*.json", "*.safetensors"]))
    assert sorted(version.files) == ["config.json", "model.safetensors"]
    assert sorted(path.name for path in version.artifact_folder.iterdir()) == ["COMMIT.json", "config.json", "model.safetensors"]
    version.verify()


def test_each_upload_is_a_version_and_what_has_no_files_cannot_be_verified(tmp_path: Path) -> None:
    upload = Registration(project="acme", location="local", display_name="m", model_id="mine", resource={"labels": {"a": "b"}})
    first, second = register(tmp_path, upload, files={}), register(tmp_path, upload, files={})
    assert [version.resource_name for version in (first, second)] == [f"projects/acme/locations/local/models/mine@{number}" for number in (1, 2)]
    assert (first.labels, models.get("mine@1").registration.resource) == ({"a": "b"}, {"labels": {"a": "b"}})
    with pytest.raises(ModelError, match="has no files on this machine"):
        first.verify()
    elsewhere = register(tmp_path, replace(upload, project="other"), files={})
    assert (elsewhere.version, elsewhere.folder.parent.parent == first.folder.parent.parent) == (1, False)


def test_the_number_of_a_removed_version_is_not_given_to_another(tmp_path: Path, home: Path) -> None:
    first, second = registered(tmp_path), registered(tmp_path, "job-2")
    states = [models.state()]
    models.remove(second)
    states.append(models.state())
    assert [version.resource_name for version in models.list_versions()] == [first.resource_name]
    assert not list(home.rglob("*safetensors"))[3:]
    models.remove(second)
    assert registered(tmp_path, "job-3").version == 3
    states.append(models.state())
    assert len(set(states)) == 3


def test_a_crash_while_a_version_is_removed_leaves_it_whole_or_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name, calls in ((Path, "rename", 0), (Path, "rename", 1), (models, "remove_folder", 1)):
        version = registered(tmp_path, f"job {name} {calls}")
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, crash_after(calls, getattr(owner, name)))
            with pytest.raises(Crash):
                models.remove(version)
        for known in models.list_versions():
            known.verify()
        models.remove(version)
        assert models.list_versions() == []
