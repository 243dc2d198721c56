import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.data.tiny_tokenizer import write_model
from tuneline import storage
from tuneline.data import base_model
from tuneline.data.base_model import check_configuration, find_here, locate
from tuneline.errors import ModelError


def put(name: str, **values: object) -> Callable[[Path], None]:
    """Add keys to a JSON file of the folder."""

    def change(folder: Path) -> None:
        path = folder / name
        before = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(before | values))

    return change


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def link(name: str, target: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return change


def both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


HOSTILE = {
    "auto_map": (put("config.json", auto_map={"AutoModelForCausalLM": "modeling.Evil"}), "auto_map"),
    "auto_map in a nested part": (put("config.json", text_config={"inner": [{"auto_map": {}}]}), "auto_map"),
    "auto_map of the tokenizer": (put("tokenizer_config.json", auto_map={"AutoTokenizer": ["x.Evil", None]}), "tokenizer_config.json"),
    "trust_remote_code": (put("config.json", trust_remote_code=True), "trust_remote_code"),
    "nested trust_remote_code": (put("config.json", encoder={"trust_remote_code": True}), "trust_remote_code"),
    "attention from elsewhere": (put("config.json", _attn_implementation_internal="owner/kernel"), "_attn_implementation_internal"),
    "private key": (put("config.json", _target_="os.system"), "_target_"),
    "private key of generation": (put("generation_config.json", _from_model_config=True, _x=1), "_x"),
    "quantization": (put("config.json", quantization_config={"quant_method": "evil"}), "quantization_config"),
    "unknown architecture": (put("config.json", architectures=["EvilForCausalLM"]), "EvilForCausalLM"),
    "two architectures": (put("config.json", architectures=["LlamaForCausalLM", "EvilModel"]), "EvilModel"),
    "no architecture": (put("config.json", architectures=[]), "architecture"),
    "architecture of another type": (put("config.json", architectures="LlamaForCausalLM"), "architecture"),
    "another model type": (put("config.json", model_type="lightglue"), "model_type"),
    "no model type": (put("config.json", model_type=None), "model_type"),
    "no config": (remove("config.json"), "config.json is missing"),
    "config is no JSON": (write("config.json", b"__import__('os')"), "not a JSON object"),
    "config is a list": (write("config.json", b"[]"), "not a JSON object"),
    "config is a depth bomb": (write("config.json", b"[" * 1_000_000), "not a JSON object"),
    "config is huge": (write("config.json", b'{"a": "' + b"x" * 10_000_001 + b'"}'), "not a JSON object"),
    "pickle only": (both(remove("model.safetensors"), write("pytorch_model.bin", b"\x80\x04.")), "pickled weights"),
    "no weights": (remove("model.safetensors"), "no *.safetensors"),
    "header of ten gigabytes": (write("model.safetensors", (10**10).to_bytes(8, "little") + b"{}"), "damaged"),
    "empty weights": (write("model.safetensors", b""), "damaged"),
    "pickle with another name": (write("model.safetensors", b"\x80\x04\x95" + b"\0" * 90), "damaged"),
    "index leaves the folder": (put("model.safetensors.index.json", weight_map={"w": "../other.safetensors"}), "points to"),
    "index with an absolute path": (put("model.safetensors.index.json", weight_map={"w": "/etc/x.safetensors"}), "points to"),
    "index names a pickle": (put("model.safetensors.index.json", weight_map={"w": "pytorch_model.bin"}), "points to"),
    "index names a missing shard": (put("model.safetensors.index.json", weight_map={"w": "model-2.safetensors"}), "missing"),
    "index without a map": (put("model.safetensors.index.json", metadata={}), "weight_map"),
    "link out of the folder": (link("vocab.txt", "/etc/passwd"), "link out of the folder"),
    "weights are a link": (link("model.safetensors", "../elsewhere.safetensors"), "link out of the folder"),
    "adapter with a base of its own": (put("adapter_config.json", base_model_name_or_path="owner/evil"), "adapter"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_folder_is_refused_by_name(tmp_path: Path, name: str) -> None:
    change, word = HOSTILE[name]
    write_model(tmp_path / "other").joinpath("model.safetensors").replace(tmp_path / "elsewhere.safetensors")
    folder = write_model(tmp_path / "model")
    check_configuration(folder)
    change(folder)
    with pytest.raises(ModelError, match=word.replace("*", r"\*").replace("?", r"\?")):
        check_configuration(folder)


def test_all_reasons_come_at_once(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    put("config.json", auto_map={}, _evil=1, architectures=["Evil"])(folder)
    with pytest.raises(ModelError) as raised:
        check_configuration(folder)
    assert len(raised.value.problems) == 3


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"},
        {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "_sliding_window_pattern": 6},
        {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "_name_or_path": "x", "rope_scaling": {"factor": 8.0}},
    ],
)
def test_configurations_of_supported_families_pass(tmp_path: Path, config: dict[str, object]) -> None:
    folder = write_model(tmp_path)
    put("config.json", **config)(folder)
    put("model.safetensors.index.json", weight_map={"w": "model.safetensors"})(folder)
    check_configuration(folder)
    assert json.loads((folder / "config.json").read_text())["architectures"] == config["architectures"]


def test_an_embedded_model_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model(tmp_path / "tiny-1")
    monkeypatch.setattr(base_model, "EMBEDDED_MODELS", tmp_path)
    assert locate("embedded:tiny-1", downloads=tmp_path) == folder
    for name in ("tiny-2", "../tiny-1", "", "."):
        with pytest.raises(ModelError, match="not part of this installation"):
            locate(f"embedded:{name}", downloads=tmp_path)


def test_the_installed_model_is_embedded(tmp_path: Path) -> None:
    assert (locate("embedded:tiny-code-001", downloads=tmp_path) / "tokenizer.json").is_file()


def test_a_folder_is_its_own_location(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    assert locate(str(folder), downloads=tmp_path) == folder
    assert locate(f"file://{folder}", downloads=tmp_path) == folder
    with pytest.raises(ModelError, match=r"hf://owner/model"):
        locate("owner/model", downloads=tmp_path)


def test_a_downloaded_model_is_used_without_network_once_it_is_complete(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "hf" / "owner" / "model@v1")
    assert find_here("hf://owner/model@v1", downloads=tmp_path) is None
    (folder / ".complete").touch()
    assert locate("hf://owner/model@v1", downloads=tmp_path) == find_here("hf://owner/model@v1", downloads=tmp_path) == folder


def test_a_model_that_cannot_be_fetched_is_an_error_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="cannot be reached") as raised:
        locate("hf://owner/model", downloads=tmp_path)
    assert "give their folder" in raised.value.next_action


@pytest.mark.parametrize("uri", ["hf://", "hf://owner", "hf://../x", "hf://owner/../x", "hf://owner/x@../y", "hf://a/b/c"])
def test_a_hugging_face_name_cannot_lead_out_of_the_downloads(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ModelError, match="no Hugging Face model"):
        locate(uri, downloads=tmp_path)


def test_a_model_in_a_bucket_is_copied_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = MemoryFileSystem()
    monkeypatch.setattr(storage, "cloud_filesystem", lambda: bucket)
    for path in write_model(tmp_path / "model").iterdir():
        bucket.pipe_file(f"models/tiny/{path.name}", path.read_bytes())
    first = locate("gs://models/tiny", downloads=tmp_path / "downloads")
    check_configuration(first)
    (first / "mark").touch()
    assert locate("gs://models/tiny", downloads=tmp_path / "downloads") == first
    bucket.pipe_file("models/tiny/config.json", b"{}")
    second = locate("gs://models/tiny", downloads=tmp_path / "downloads")
    assert second != first
    assert (second / "config.json").read_bytes() == b"{}"
    assert (first / "mark").exists()
