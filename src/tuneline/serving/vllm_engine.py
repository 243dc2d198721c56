"""Answers made by vLLM, whose engine runs in processes of its own: prompts go there as the tokens that we made, and tokens come back.

vLLM's asyncio client lives on an event loop in a thread here, so that starting it (minutes) keeps no request waiting. Written against vLLM 0.32 and 0.33.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import secrets
import threading
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from transformers import AutoConfig

from tuneline.errors import InfrastructureError, ModelError
from tuneline.serving.adapters import Adapter
from tuneline.serving.engine import COLDEST, MAX_WAITING, NOT_RUNNING, STOP_SECONDS, TOO_MANY, Deliver, End, Generation
from tuneline.serving.model_files import ServedModel
from tuneline.serving.prompts import Sampling

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.async_llm import AsyncLLM

logger = logging.getLogger("tuneline.serving")
T = TypeVar("T")

GPU_MEMORY_UTILIZATION = 0.9
"""Share of each GPU's memory for weights, activations and the cache."""
AUTOMATIC = -1
"""As `max_model_len`: the model's own context, or as much of it as the cache has room for."""
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Those that vLLM can be told to make room for."""
FORCED = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
"""Nothing is sent anywhere, and nothing fetched: the files are here."""
PREFERRED = {
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # this process has asked CUDA for its GPUs already
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",  # it would be compiled at the first request, by a compiler for CUDA that an image need not have
}
ENDS: Mapping[str | None, End | None] = {None: None, "stop": "stop", "length": "length"}
"""Any other reason is a failure."""


class VllmEngine:
    """vLLM's engine, and the thread that talks to it."""

    takes_seeds = True

    def __init__(self, model: ServedModel, *, end_ids: frozenset[int], num_gpus: int) -> None:
        os.environ.update(FORCED | {name: value for name, value in PREFERRED.items() if name not in os.environ})
        self._ids = itertools.count()
        self._unfinished: dict[str, Generation] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._lock = threading.Lock()
        self._is_open = True
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()
        try:
            self._lora = _lora_request(model.adapter)
            self._llm = self._run(_start(engine_arguments(model, num_gpus), self._lora))
        except BaseException as error:
            self._end_thread()
            if isinstance(error, ValueError):  # what its configuration classes raise
                raise ModelError(f"{model.folder}: vLLM cannot serve this model: {error}") from error
            if isinstance(error, Exception) and not isinstance(error, ModelError):
                raise InfrastructureError(f"vLLM did not start: {type(error).__name__}: {error}", next_action="Its own lines above say why.") from error
            raise
        self.context_length = int(self._llm.model_config.max_model_len)
        self.vocabulary_size = int(self._llm.model_config.get_vocab_size())
        self._end_ids = sorted(id_ for id_ in end_ids if id_ < self.vocabulary_size)  # vLLM refuses to stop at what cannot come

    @property
    def is_healthy(self) -> bool:
        """Whether vLLM's processes live. One that dies ends the engine for good."""
        return self._is_open and not self._llm.errored

    def submit(self, prompt: Sequence[int], max_tokens: int, sampling: Sampling, deliver: Deliver) -> Generation:
        """Queue one answer. `deliver` is called from the engine's thread."""
        generation = Generation(request_id=str(next(self._ids)), prompt=prompt, max_tokens=max_tokens, sampling=sampling, deliver=deliver)
        with self._lock:
            if not self.is_healthy:
                raise InfrastructureError(NOT_RUNNING)
            if len(self._unfinished) >= MAX_WAITING:
                raise InfrastructureError(TOO_MANY)
            self._unfinished[generation.request_id] = generation
            self._loop.call_soon_threadsafe(self._begin, generation)
        return generation

    def cancel(self, generation: Generation) -> None:
        """Nobody waits for this answer any more; vLLM aborts what its consumer leaves."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it every answer
            self._loop.call_soon_threadsafe(self._give_up, generation)

    def close(self) -> None:
        """Fail what is not finished, and end vLLM's processes."""
        with self._lock:
            if not self._is_open:
                return
            self._is_open = False
        try:
            self._run(self._stop())
        finally:
            self._end_thread()

    def _begin(self, generation: Generation) -> None:
        task = self._loop.create_task(self._answer(generation))
        self._tasks[generation.request_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(generation.request_id, None))

    def _give_up(self, generation: Generation) -> None:
        if self._unfinished.pop(generation.request_id, None):
            self._tasks[generation.request_id].cancel()

    async def _answer(self, generation: Generation) -> None:
        from vllm.inputs import tokens_input

        try:
            prompt = tokens_input(list(generation.prompt))
            outputs = self._llm.generate(prompt, self._sampling_params(generation), generation.request_id, lora_request=self._lora)
            async with aclosing(outputs):
                async for output in outputs:
                    [completion] = output.outputs
                    self._deliver(generation, list(completion.token_ids), ENDS.get(completion.finish_reason, "failed"))
        except Exception as error:  # a request that is refused, or the engine's death; what was asked does not go into the log
            logger.error("answer=%s failed: %s", generation.request_id, type(error).__name__)
            self._deliver(generation, [], "failed")

    def _deliver(self, generation: Generation, tokens: Sequence[int], end: End | None) -> None:
        """Several tokens when they come faster than they are taken; none beside the end of what was aborted."""
        if generation.request_id not in self._unfinished:
            return
        if end is not None:
            del self._unfinished[generation.request_id]
        for index, token in enumerate(tokens, 1):
            generation.deliver(token, end if index == len(tokens) else None)
        if end is not None and not tokens:
            generation.deliver(None, end)

    def _sampling_params(self, generation: Generation) -> "SamplingParams":
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = generation.sampling
        return SamplingParams(
            temperature=sampling.temperature if sampling.temperature >= COLDEST else 0.0,
            top_p=sampling.top_p,
            top_k=sampling.top_k if sampling.top_k < self.vocabulary_size else 0,
            seed=sampling.seed,
            max_tokens=generation.max_tokens,
            ignore_eos=True,  # exactly our ends, as on the other engine
            stop_token_ids=self._end_ids,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )

    async def _stop(self) -> None:
        for generation in list(self._unfinished.values()):
            self._deliver(generation, [], "failed")
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        self._llm.shutdown(timeout=STOP_SECONDS)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end_thread(self) -> None:
        self._is_open = False
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()


def engine_arguments(model: ServedModel, num_gpus: int) -> dict[str, object]:
    """What vLLM is told; all that it could fetch, run or write by itself is off."""
    config = AutoConfig.from_pretrained(model.folder, local_files_only=True, trust_remote_code=False).get_text_config()
    heads = int(config.num_attention_heads)
    arguments: dict[str, object] = {
        "model": str(model.folder),
        "skip_tokenizer_init": True,
        "trust_remote_code": False,
        "load_format": "safetensors",
        "dtype": "bfloat16",
        "generation_config": "vllm",  # none of the folder's sampling defaults
        "max_model_len": AUTOMATIC,
        "gpu_memory_utilization": GPU_MEMORY_UTILIZATION,
        "tensor_parallel_size": tensor_parallel_size(num_gpus, heads, int(getattr(config, "num_key_value_heads", None) or heads)),
        "seed": secrets.randbits(31),  # else every process would draw the same
        "disable_log_stats": True,
        "enable_log_requests": False,
    }
    if model.adapter is not None:
        arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": _rank_with_room(model.adapter)}
    return arguments


def tensor_parallel_size(num_gpus: int, num_heads: int, num_key_value_heads: int) -> int:
    """The most GPUs among which the attention heads can be shared out evenly; key-value heads may be doubled."""
    sizes = range(1, max(num_gpus, 1) + 1)
    return max(n for n in sizes if num_heads % n == 0 and (num_key_value_heads % n == 0 or n % num_key_value_heads == 0))


async def _start(arguments: Mapping[str, object], lora: "LoRARequest | None") -> "AsyncLLM":
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    llm: AsyncLLM = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
    if lora is not None:
        try:
            await llm.add_lora(lora)
        except Exception as error:
            llm.shutdown(timeout=STOP_SECONDS)
            raise ModelError(f"{Path(lora.lora_path)}: vLLM cannot serve this adapter: {error}") from error
    return llm


def _lora_request(adapter: Adapter | None) -> "LoRARequest | None":
    if adapter is None:
        return None
    if adapter.uses_dora:
        action = "Merge it into its base model (merge_and_unload, save_pretrained) and serve the whole model."
        raise ModelError(f"{adapter.folder}: use_dora: vLLM has no DoRA.", next_action=action)
    from vllm.lora.request import LoRARequest

    return LoRARequest(lora_name="adapter", lora_int_id=1, lora_path=str(adapter.folder))


def _rank_with_room(adapter: Adapter) -> int:
    room = next((rank for rank in LORA_RANKS if rank >= adapter.rank), None)
    if room is None:
        raise ModelError(f"{adapter.folder}: its rank is {adapter.rank}; vLLM takes ranks up to {LORA_RANKS[-1]}.")
    return room
