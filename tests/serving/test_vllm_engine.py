"""The engine over vLLM, on a stand-in for vLLM that runs a tiny model: what goes there, and what comes back."""

import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from tests.modeling.tiny_model import write_base
from tests.serving.adapter_folders import write_adapter
from tests.serving.answers import Answer, alone, ask, prompts
from tests.serving.conftest import HERE
from tuneline.errors import InfrastructureError, ModelError
from tuneline.serving import loading, vllm_engine
from tuneline.serving.adapters import read_adapter
from tuneline.serving.model_files import ServedModel
from tuneline.serving.prompts import Sampling
from tuneline.serving.vllm_engine import VllmEngine, engine_arguments, tensor_parallel_size

END = 6


@pytest.fixture(scope="module", autouse=True)
def async_llm() -> Iterator[Any]:
    """The stand-in's engine class."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE / "fake_vllm")
        for name in (*vllm_engine.FORCED, *vllm_engine.PREFERRED):
            patch.setenv(name, "")
            patch.delenv(name)
        from vllm.v1.engine.async_llm import AsyncLLM  # type: ignore[import-not-found]

        yield AsyncLLM
    for name in [name for name in sys.modules if name.split(".")[0] == "vllm"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "model", dtype=torch.float32)


@pytest.fixture(scope="module")
def model(folder: Path) -> PreTrainedModel:
    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return loaded


@pytest.fixture
def engine(folder: Path) -> Iterator[VllmEngine]:
    started = VllmEngine(ServedModel(folder=folder, tokenizer_folder=folder), end_ids=frozenset({END}), num_gpus=1)
    yield started
    started.close()


def test_vllm_is_told_to_serve_the_folder_and_to_fetch_run_and_report_nothing(folder: Path, engine: VllmEngine, async_llm: Any) -> None:
    args = async_llm.latest.args
    assert args.model == str(folder)
    assert (args.trust_remote_code, args.load_format, args.skip_tokenizer_init, args.generation_config) == (False, "safetensors", True, "vllm")
    assert (args.enable_log_requests, args.disable_log_stats, args.enable_lora, args.max_model_len) == (False, True, False, -1)
    assert (os.environ["VLLM_NO_USAGE_STATS"], os.environ["DO_NOT_TRACK"], os.environ["HF_HUB_OFFLINE"]) == ("1", "1", "1")
    assert os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"
    served = ServedModel(folder=folder, tokenizer_folder=folder)
    assert engine_arguments(served, 1)["seed"] != engine_arguments(served, 1)["seed"]
    assert (engine.context_length, engine.vocabulary_size) == (256, 263)


def test_everybody_gets_the_answer_that_they_would_get_alone(engine: VllmEngine, model: PreTrainedModel) -> None:
    lengths = [1, 2, 24, 9, 24, 3, 17, 24]
    expected = [alone(model, prompt, length) for prompt, length in zip(prompts(8), lengths, strict=True)]
    assert len({token for tokens in expected for token in tokens}) > 10
    answers = [ask(engine, prompt, length) for prompt, length in zip(prompts(8), lengths, strict=True)]
    assert [answer.wait() for answer in answers] == expected
    assert {answer.end for answer in answers} == {"length"}


def test_tokens_that_come_several_at_once_are_delivered_one_by_one(engine: VllmEngine, model: PreTrainedModel, async_llm: Any) -> None:
    expected = alone(model, [9, 10], 40)
    async_llm.latest.steps_at_once = 7
    answer = ask(engine, [9, 10], 40)
    assert answer.wait() == expected
    assert answer.end == "length"
    assert async_llm.latest.largest_delta == 7


def test_an_answer_stops_at_our_end_ids_and_no_others(folder: Path, model: PreTrainedModel) -> None:
    whole = alone(model, prompts(1)[0], 24)
    end = next(token for token in whole[3:] if token not in whole[:3])
    engine = VllmEngine(ServedModel(folder=folder, tokenizer_folder=folder), end_ids=frozenset({end, 5, 9999}), num_gpus=1)
    answer = ask(engine, prompts(1)[0], 24)
    assert answer.wait() == whole[: whole.index(end) + 1]
    assert answer.end == "stop"
    engine.close()


def test_sampling_goes_to_vllm_as_it_was_asked_for(engine: VllmEngine, async_llm: Any) -> None:
    samplings = [Sampling(), Sampling(temperature=0.7, top_p=0.9, top_k=5, seed=3), Sampling(temperature=1e-30), Sampling(temperature=1.0, top_k=10**6)]
    for sampling in samplings:
        ask(engine, [9, 10], 3, sampling).wait()
    params = [request.params for request in async_llm.latest.asked]
    assert [(p.temperature, p.top_p, p.top_k, p.seed) for p in params] == [(0, 1, 0, None), (0.7, 0.9, 5, 3), (0, 1, 0, None), (1, 1, 0, None)]
    assert {(p.max_tokens, tuple(p.stop_token_ids), p.ignore_eos, p.detokenize, p.n) for p in params} == {(3, (END,), True, False, 1)}
    assert async_llm.latest.asked[0].prompt == [9, 10]
    assert [request.lora for request in async_llm.latest.asked] == [None] * 4


def test_a_seed_repeats_an_answer_and_another_one_changes_it(engine: VllmEngine) -> None:
    hot = Sampling(temperature=1.5, seed=7)
    one, same, other = (ask(engine, [9, 10], 12, sampling).wait() for sampling in (hot, hot, replace(hot, seed=8)))
    assert one == same
    assert one != other


def test_a_cancelled_answer_is_aborted_and_nothing_of_it_comes_any_more(engine: VllmEngine, async_llm: Any) -> None:
    endless, unheard = Answer(), Answer()
    generation = engine.submit([9, 10], 250, Sampling(), endless.deliver)
    assert endless.has_begun.wait(60)
    engine.cancel(generation)
    engine.cancel(generation)
    engine.cancel(engine.submit([9], 250, Sampling(), unheard.deliver))  # perhaps before it has begun
    after = ask(engine, [9, 10], 2)
    after.wait()
    engine.cancel(generation)
    assert generation.request_id in async_llm.latest.aborted
    assert async_llm.latest.requests == {}
    assert engine._unfinished == {}
    assert not endless.has_ended.is_set()
    assert not unheard.has_ended.is_set()
    assert engine.is_healthy


def test_the_death_of_vllm_is_told_to_everybody_and_for_good(engine: VllmEngine, async_llm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine.is_healthy
    running = Answer()
    engine.submit([9, 10], 250, Sampling(), running.deliver)
    assert running.has_begun.wait(60)
    monkeypatch.setattr(async_llm, "deadly_token", 66)
    answers = [running, ask(engine, [66], 5)]
    for answer in answers:
        answer.wait()
    assert [answer.end for answer in answers] == ["failed", "failed"]
    assert not engine.is_healthy
    with pytest.raises(InfrastructureError, match="a generation step failed"):
        ask(engine, [9], 1)


def test_a_request_that_vllm_refuses_fails_alone_and_its_text_is_not_logged(engine: VllmEngine, caplog: pytest.LogCaptureFixture) -> None:
    refused, other = ask(engine, [201] * 300, 5), ask(engine, [9], 3)
    refused.wait()
    other.wait()
    assert (refused.end, other.end) == ("failed", "length")
    assert engine.is_healthy
    assert "VLLMValidationError" in caplog.text
    assert "201" not in caplog.text


def test_an_answer_has_one_end(engine: VllmEngine, async_llm: Any) -> None:
    async_llm.latest.fails_after_the_end = True
    delivered: list[tuple[int | None, Any]] = []
    engine.submit([9], 2, Sampling(), lambda token, end: delivered.append((token, end)))
    ask(engine, [9, 10], 5).wait()
    engine.close()
    assert [end for _, end in delivered] == [None, "length"]


def test_closing_tells_everybody_who_waits_and_ends_vllm(engine: VllmEngine, async_llm: Any) -> None:
    answers = [ask(engine, prompt, 200) for prompt in prompts(4)]
    engine.close()
    engine.close()
    assert [answer.end for answer in answers] == ["failed"] * 4
    assert async_llm.latest.is_shut_down
    assert not engine._thread.is_alive()
    with pytest.raises(InfrastructureError, match="stopping"):
        ask(engine, [9], 1)


def test_nobody_can_fill_the_queue_for_ever(engine: VllmEngine, async_llm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_engine, "MAX_WAITING", 2)
    monkeypatch.setattr(async_llm, "is_paused", True)
    answers = [ask(engine, [9], 1), ask(engine, [9], 1)]
    with pytest.raises(InfrastructureError, match="already being waited for"):
        ask(engine, [9], 1)
    monkeypatch.setattr(async_llm, "is_paused", False)
    assert [len(answer.wait()) for answer in answers] == [1, 1]
    ask(engine, [9], 1).wait()


def test_an_adapter_goes_to_vllm_beside_its_base(folder: Path, model: PreTrainedModel, tmp_path: Path, async_llm: Any) -> None:
    adapter = write_adapter(tmp_path / "adapter", folder, rank=12)
    engine = VllmEngine(ServedModel(folder=folder, tokenizer_folder=folder, adapter=read_adapter(adapter)), end_ids=frozenset({END}), num_gpus=1)
    args = async_llm.latest.args
    assert (args.model, args.enable_lora, args.max_loras, args.max_lora_rank) == (str(folder), True, 1, 16)
    answer = ask(engine, [9, 10], 12).wait()
    assert async_llm.latest.asked[0].lora.lora_path == str(adapter)
    assert answer != alone(model, [9, 10], 12)
    engine.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"use_dora": True}, "use_dora: vLLM has no DoRA"), ({"rank": 600}, "rank is 600; vLLM takes ranks up to 512")],
)
def test_an_adapter_that_vllm_does_not_take_is_refused_by_name(changes: dict[str, Any], message: str, folder: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", folder, **changes)
    with pytest.raises(ModelError, match=message):
        VllmEngine(ServedModel(folder=folder, tokenizer_folder=folder, adapter=read_adapter(adapter)), end_ids=frozenset({END}), num_gpus=1)


def test_an_adapter_that_vllm_itself_refuses_ends_it(folder: Path, tmp_path: Path, async_llm: Any) -> None:
    adapter = write_adapter(tmp_path / "adapter", folder, rank=12)
    served = ServedModel(folder=folder, tokenizer_folder=folder, adapter=replace(read_adapter(adapter), rank=8))
    with pytest.raises(ModelError, match="LoRA rank 12 is greater than max_lora_rank 8"):
        VllmEngine(served, end_ids=frozenset({END}), num_gpus=1)
    assert async_llm.latest.is_shut_down


def test_vllm_that_does_not_start_is_an_error_that_says_so(tmp_path: Path) -> None:
    write_base(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"nothing")
    served = ServedModel(folder=tmp_path / "model", tokenizer_folder=tmp_path / "model")
    with pytest.raises(InfrastructureError, match="vLLM did not start: SafetensorError"):
        VllmEngine(served, end_ids=frozenset({END}), num_gpus=1)
    assert not [thread for thread in threading.enumerate() if thread.name == "vllm"]


@pytest.mark.parametrize(
    ("gpus", "heads", "key_value_heads", "size"),
    [(1, 32, 8, 1), (8, 32, 8, 8), (4, 32, 8, 4), (3, 32, 8, 2), (8, 14, 2, 2), (8, 12, 12, 6), (16, 32, 8, 16), (8, 8, 1, 8), (0, 8, 1, 1)],
)
def test_the_heads_are_shared_out_evenly_among_the_gpus(gpus: int, heads: int, key_value_heads: int, size: int) -> None:
    assert tensor_parallel_size(gpus, heads, key_value_heads) == size


def test_on_a_gpu_vllm_answers_within_the_context_that_its_cache_has_room_for(folder: Path, async_llm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(async_llm, "room_tokens", 100)
    predictor = loading.load_predictor(ServedModel(folder=folder, tokenizer_folder=folder))
    assert predictor.context_length == 100
    assert async_llm.latest.args.tensor_parallel_size == 2
    predictor.close()


def test_a_tokenizers_smaller_context_goes_first(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 99}')
    assert loading.context_length(LlamaConfig(max_position_embeddings=256), tmp_path) == 99
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 1000000000000000019884624838656}')
    assert loading.context_length(LlamaConfig(max_position_embeddings=256), tmp_path) == 256
