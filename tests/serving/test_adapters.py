import asyncio
import hashlib
import json
import math
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.modeling.tiny_model import CHAT_TEMPLATE, write_base
from tests.serving.adapter_folders import TARGETS, edit, write_adapter
from tuneline import storage
from tuneline.data.conversation import Turn
from tuneline.errors import ModelError
from tuneline.serving import model_files
from tuneline.serving.adapters import read_adapter
from tuneline.serving.loading import load_predictor
from tuneline.serving.merging import load_served_model
from tuneline.serving.model_files import ServedModel, find_model
from tuneline.serving.prompts import Prompt, Sampling

CPU = torch.device("cpu")
IDS = torch.tensor([[9, 10, 11, 200, 37]])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "model", dtype=torch.float32)


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    return write_adapter(tmp_path / "adapter", base)


def whole(folder: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(input_ids=IDS).logits
    return out


def answers(served: ServedModel) -> list[str]:
    predictor = load_predictor(served)

    async def complete() -> list[str]:
        prompts = [Prompt(where=text, turns=(Turn("user", text),), sampling=Sampling(max_tokens=12)) for text in ("a", "def f(", "é日本")]
        return [(await predictor.complete(ready)).text for ready in predictor.prepare(prompts)]

    try:
        return asyncio.run(complete())
    finally:
        predictor.close()


def test_an_adapter_answers_as_the_model_into_which_it_was_merged_by_hand(base: Path, adapter: Path, tmp_path: Path) -> None:
    by_hand = tmp_path / "by-hand"
    shutil.copytree(base, by_hand)
    weights, low = load_file(base / "model.safetensors"), load_file(adapter / "adapter_model.safetensors")
    changed = [name for name in weights if any(f".{target}." in name for target in TARGETS)]
    assert len(changed) == 6
    for name in changed:
        place = f"base_model.model.{name.removesuffix('.weight')}"
        weights[name] = weights[name] + 2.0 * low[f"{place}.lora_B.weight"] @ low[f"{place}.lora_A.weight"]  # lora_alpha / r
    save_file(weights, by_hand / "model.safetensors", metadata={"format": "pt"})
    merged = answers(find_model(str(adapter), base_model="", downloads=tmp_path))
    assert merged == answers(find_model(str(by_hand), base_model="", downloads=tmp_path))
    assert merged != answers(find_model(str(base), base_model="", downloads=tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"use_rslora": True}, {"use_dora": True}, {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 32}}, {"target_modules": "all-linear"},
        {"layers_to_transform": [1]}, {"lora_dropout": 0.5},
    ],
)  # fmt: skip
def test_merged_weights_say_what_peft_says_unmerged(changes: Mapping[str, Any], base: Path, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", base, **changes)
    served = ServedModel(folder=base, tokenizer_folder=base, adapter=read_adapter(folder))
    merged = load_served_model(served, dtype=torch.float32, device=CPU)
    assert "lora" not in " ".join(merged.state_dict())
    torch.testing.assert_close(logits(merged), logits(PeftModel.from_pretrained(whole(base), str(folder)).eval()), atol=1e-4, rtol=1e-4)
    assert (logits(merged) - logits(whole(base))).abs().max() > 0.1


def test_the_rank_is_the_largest_one(base: Path, tmp_path: Path) -> None:
    assert read_adapter(write_adapter(tmp_path / "a", base, rank_pattern={"q_proj": 9, "v_proj": 2})).rank == 9


REFUSED = [
    ({"peft_type": "IA3"}, "peft_type: found 'IA3'; expected 'LORA'."),
    ({"task_type": "SEQ_CLS"}, "task_type: found 'SEQ_CLS'; expected 'CAUSAL_LM'."),
    ({"modules_to_save": ["lm_head"]}, "modules_to_save: not supported."),
    ({"bias": "all"}, "bias: found 'all'; expected 'none'."),
    ({"fan_in_fan_out": True}, "fan_in_fan_out: not supported."),
    ({"megatron_config": {"x": 1}}, "megatron_config: not supported."),
    ({"layer_replication": [[0, 1]]}, "layer_replication: not supported."),
    ({"lora_bias": True}, "lora_bias: not supported."),
    ({"trainable_token_indices": [1]}, "trainable_token_indices: not supported."),
    ({"init_lora_weights": "pissa"}, "init_lora_weights: 'pissa' changes the base model's weights, too"),
    ({"r": 0}, "r: found 0; expected a whole number from 1 up."),
    ({"rank_pattern": {"q_proj": "x"}}, "rank_pattern.q_proj: found 'x'"),
    ({"a_feature_of_next_year": 3}, "a_feature_of_next_year: not supported."),
]


@pytest.mark.parametrize(("changes", "problem"), REFUSED)
def test_what_cannot_be_served_is_refused_by_name(changes: Mapping[str, Any], problem: str, adapter: Path) -> None:
    edit(adapter, changes)
    with pytest.raises(ModelError) as error:
        read_adapter(adapter)
    [found] = error.value.problems
    assert problem in found


def test_all_problems_come_at_once(adapter: Path) -> None:
    edit(adapter, {"bias": "all", "modules_to_save": ["score"]})
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError) as error:
        read_adapter(adapter)
    assert [problem.partition("adapter: ")[2] for problem in error.value.problems] == [
        "adapter_config.json: bias: found 'all'; expected 'none'.",
        "adapter_config.json: modules_to_save: not supported.",
        "only adapter_model.bin, which is pickled and can run code; expected adapter_model.safetensors.",
    ]


def test_weights_of_embeddings_are_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="changes embed_tokens; expected linear layers only"):
        read_adapter(write_adapter(tmp_path / "adapter", base, target_modules=["embed_tokens", "q_proj"]))


@pytest.mark.parametrize(("content", "problem"), [(None, "adapter_model.safetensors is missing"), (b"x", "is damaged or no safetensors file")])
def test_weights_that_cannot_be_read_are_refused(content: bytes | None, problem: str, adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    if content:
        (adapter / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=problem):
        read_adapter(adapter)


def test_a_link_out_of_the_folder_is_refused(adapter: Path, tmp_path: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    (adapter / "adapter_model.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(ModelError, match="is a link out of the folder"):
        read_adapter(adapter)


def change_weights(adapter: Path, drop: str = "", add: str = "") -> None:
    weights = load_file(adapter / "adapter_model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not drop or drop not in name}
    assert len(kept) < len(weights) or not drop
    save_file(kept | ({add: torch.zeros(4, 64)} if add else {}), adapter / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"drop": "layers.1.self_attn.q_proj.lora_B"}, "lacks: .*layers.1.self_attn.q_proj.lora_B"),
        ({"add": "base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight"}, "has weights that the base model has no place for: .*layers.7"),
    ],
)
def test_an_adapter_that_would_be_served_in_part_is_refused(changes: Mapping[str, str], problem: str, base: Path, adapter: Path) -> None:
    change_weights(adapter, **changes)
    with pytest.raises(ModelError, match=problem):
        load_served_model(ServedModel(folder=base, tokenizer_folder=base, adapter=read_adapter(adapter)), dtype=torch.float32, device=CPU)


def test_an_adapter_of_another_shape_is_refused(base: Path, adapter: Path) -> None:
    edit(adapter, {"r": 5})
    with pytest.raises(ModelError, match="does not fit its base model"):
        load_served_model(ServedModel(folder=base, tokenizer_folder=base, adapter=read_adapter(adapter)), dtype=torch.float32, device=CPU)


def test_weights_that_are_no_numbers_are_refused(base: Path, adapter: Path) -> None:
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({name: tensor * math.nan for name, tensor in weights.items()}, adapter / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="does not fit its base model"):
        load_served_model(ServedModel(folder=base, tokenizer_folder=base, adapter=read_adapter(adapter)), dtype=torch.float32, device=CPU)


def test_without_peft_the_extra_is_named(base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError) as error:
        load_served_model(ServedModel(folder=base, tokenizer_folder=base, adapter=read_adapter(adapter)), dtype=torch.float32, device=CPU)
    assert error.value.next_action == "pip install 'tuneline[serve]'"


@pytest.mark.parametrize(
    ("said", "revision", "uri"),
    [("meta/llama", None, "hf://meta/llama"), ("meta/llama", "main", "hf://meta/llama@main"), ("embedded:x", None, "embedded:x"), ("/a/b", None, "/a/b")],
)
def test_the_base_model_is_where_the_adapter_says(
    said: str, revision: str | None, uri: str, adapter: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(model_files, "locate", lambda name, downloads: asked.append(name) or base)
    edit(adapter, {"base_model_name_or_path": said, "revision": revision})
    served = find_model(str(adapter), base_model="", downloads=base)
    assert (asked, served.folder) == ([uri], base)
    find_model(str(adapter), base_model="hf://other/one", downloads=base)
    assert asked == [uri, "hf://other/one"]


def test_a_folder_of_that_name_is_the_base_model(adapter: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base.parent.parent)
    name = f"{base.parent.name}/{base.name}"
    edit(adapter, {"base_model_name_or_path": name})
    assert find_model(str(adapter), base_model="", downloads=base).folder == Path(name)


@pytest.mark.parametrize("said", ["/nowhere/model", ""])
def test_a_base_model_that_is_not_here_can_be_given(said: str, adapter: Path, base: Path, tmp_path: Path) -> None:
    edit(adapter, {"base_model_name_or_path": said})
    with pytest.raises(ModelError, match=re.escape(f"base model of the adapter {adapter}: {said}")) as error:
        find_model(str(adapter), base_model="", downloads=tmp_path)
    assert "--base-model (BASE_MODEL_ID)" in error.value.next_action
    assert find_model(str(adapter), base_model=str(base), downloads=tmp_path).folder == base


def test_a_whole_model_has_no_base_model(base: Path, tmp_path: Path) -> None:
    assert find_model(str(base), base_model="", downloads=tmp_path) == ServedModel(folder=base, tokenizer_folder=base)
    with pytest.raises(ModelError, match="is a whole model, not an adapter"):
        find_model(str(base), base_model="hf://a/b", downloads=tmp_path)


def test_an_adapters_own_chat_template_goes_before_its_bases(adapter: Path, base: Path, tmp_path: Path) -> None:
    assert find_model(str(adapter), base_model="", downloads=tmp_path).tokenizer_folder == base
    shutil.copy(base / "tokenizer.json", adapter)
    assert find_model(str(adapter), base_model="", downloads=tmp_path).tokenizer_folder == base
    (adapter / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end_of_turn|>", "chat_template": CHAT_TEMPLATE}))
    assert find_model(str(adapter), base_model="", downloads=tmp_path).tokenizer_folder == adapter
    (adapter / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"has a chat template and no tokenizer\.json"):
        find_model(str(adapter), base_model="", downloads=tmp_path)


def test_a_committed_model_in_cloud_storage_is_copied_and_checked(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = MemoryFileSystem()
    monkeypatch.setattr(storage, "cloud_filesystem", lambda: bucket)
    files = {path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size} for path in base.iterdir()}
    for path in base.iterdir():
        bucket.pipe_file(f"served/m/{path.name}", path.read_bytes())
    bucket.pipe_file("served/m/COMMIT.json", json.dumps({"step": 20, "files": files, "state": {}}).encode())
    first = find_model("gs://served/m", base_model="", downloads=tmp_path / "one").folder
    assert (first / "config.json").read_bytes() == (base / "config.json").read_bytes()
    assert find_model("gs://served/m", base_model="", downloads=tmp_path / "one").folder == first
    bucket.pipe_file("served/m/config.json", b"{}")
    with pytest.raises(ModelError, match=r"config\.json has 2 bytes"):
        find_model("gs://served/m", base_model="", downloads=tmp_path / "two")


def test_an_adapter_in_cloud_storage_is_one(base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = MemoryFileSystem()
    monkeypatch.setattr(storage, "cloud_filesystem", lambda: bucket)
    for path in adapter.iterdir():
        bucket.pipe_file(f"served/a/{path.name}", path.read_bytes())
    served = find_model("gs://served/a", base_model=str(base), downloads=tmp_path)
    assert served.adapter is not None
    assert (served.adapter.rank, served.folder) == (4, base)
