import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from vllm import AsyncEngineArgs, SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.lora.request import LoRARequest
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError


@dataclass
class ModelConfig:
    max_model_len: int
    vocab_size: int

    def get_vocab_size(self) -> int:
        return self.vocab_size


class RequestOutputCollector:
    """What one consumer has not taken yet."""

    def __init__(self) -> None:
        self.output: RequestOutput | Exception | None = None
        self.ready = asyncio.Event()

    def put(self, output: RequestOutput | Exception) -> None:
        if isinstance(self.output, RequestOutput) and isinstance(output, RequestOutput):
            self.output.add(output)
        else:
            self.output = output
            self.ready.set()

    async def get(self) -> RequestOutput:
        while (output := self.output) is None:
            await self.ready.wait()
        self.output = None
        self.ready.clear()
        if isinstance(output, Exception):
            raise output
        return output


@dataclass
class Request:
    request_id: str
    prompt: list[int]
    params: SamplingParams
    lora: LoRARequest | None
    queue: RequestOutputCollector = field(default_factory=RequestOutputCollector)
    output: list[int] = field(default_factory=list)
    generator: torch.Generator = field(default_factory=torch.Generator)

    def __post_init__(self) -> None:
        if self.params.seed is not None:
            self.generator.manual_seed(self.params.seed)
        else:
            self.generator.seed()


class AsyncLLM:
    """One process and one loop instead of vLLM's several. What it was asked stays to be looked at."""

    latest: "AsyncLLM"
    room_tokens = 10**9
    """Of the cache: `max_model_len=-1` becomes what fits."""
    deadly_token = int(os.environ.get("FAKE_VLLM_DEADLY_TOKEN", "-1"))
    """A prompt that holds it kills the engine's process."""
    is_paused = False
    steps_at_once = 1
    fails_after_the_end = False

    @classmethod
    def from_engine_args(
        cls, engine_args: AsyncEngineArgs, start_engine_loop: bool = True, usage_context: object = None, stat_loggers: object = None
    ) -> "AsyncLLM":
        return cls(engine_args)

    def __init__(self, engine_args: AsyncEngineArgs) -> None:
        self.args = engine_args
        self.model = AutoModelForCausalLM.from_pretrained(engine_args.model, dtype=torch.float32, local_files_only=True).eval()
        derived = self.model.config.max_position_embeddings
        if engine_args.max_model_len not in (None, -1) and engine_args.max_model_len > derived:
            raise ValueError(f"User-specified max_model_len ({engine_args.max_model_len}) is greater than the derived max_model_len")
        fits = min(derived, self.room_tokens)
        self.model_config = ModelConfig(fits if engine_args.max_model_len == -1 else engine_args.max_model_len or derived, self.model.config.vocab_size)
        self.loras: dict[int, Any] = {}
        self.engine_dead = False
        self.requests: dict[str, Request] = {}
        self.asked: list[Request] = []
        self.aborted: list[str] = []
        self.largest_delta = 0
        self.is_shut_down = False
        self.output_handler: asyncio.Task[None] = asyncio.get_running_loop().create_task(self._busy_loop())
        AsyncLLM.latest = self

    @property
    def errored(self) -> bool:
        return self.engine_dead or self.output_handler.done()

    async def check_health(self) -> None:
        if self.errored:
            raise EngineDeadError

    async def add_lora(self, lora_request: LoRARequest) -> bool:
        if not self.args.enable_lora:
            raise Exception("Call to add_lora method failed: LoRA is not enabled.")  # as it comes back from another process
        base = AutoModelForCausalLM.from_pretrained(self.args.model, dtype=torch.float32)
        adapted = PeftModel.from_pretrained(base, lora_request.lora_path, torch_device="cpu")
        rank = max(adapted.peft_config["default"].r, *adapted.peft_config["default"].rank_pattern.values(), 0)
        if rank > self.args.max_lora_rank:
            raise Exception(f"Call to add_lora method failed: LoRA rank {rank} is greater than max_lora_rank {self.args.max_lora_rank}.")
        self.loras[lora_request.lora_int_id] = adapted.eval()
        return True

    async def generate(
        self,
        prompt: Mapping[str, Any],
        sampling_params: SamplingParams,
        request_id: str,
        *,
        prompt_text: str | None = None,
        lora_request: LoRARequest | None = None,
        tokenization_kwargs: dict[str, Any] | None = None,
        trace_headers: Mapping[str, str] | None = None,
        priority: int = 0,
        data_parallel_rank: int | None = None,
        session_id: str | None = None,
        kv_hints: object = None,
        reasoning_ended: bool | None = None,
        reasoning_parser_kwargs: dict[str, Any] | None = None,
    ) -> AsyncGenerator[RequestOutput, None]:
        request: Request | None = None
        try:
            request = self._add(prompt, sampling_params, request_id, lora_request)
            finished = False
            while not finished:
                output = await request.queue.get()
                self.largest_delta = max(self.largest_delta, len(output.outputs[0].token_ids))
                finished = output.finished
                yield output
            if self.fails_after_the_end:
                raise RuntimeError
        except (asyncio.CancelledError, GeneratorExit):
            if request is not None:
                await self.abort(request.request_id)
            raise
        except (EngineDeadError, VLLMValidationError):
            raise
        except Exception as error:
            raise EngineGenerateError from error

    async def abort(self, request_id: str, internal: bool = False) -> None:
        if self.requests.pop(request_id, None):
            self.aborted.append(request_id)

    def shutdown(self, timeout: float | None = None) -> None:
        self.is_shut_down = True
        self.output_handler.cancel()

    def _add(self, prompt: Mapping[str, Any], params: SamplingParams, request_id: str, lora: LoRARequest | None) -> Request:
        if self.errored:
            raise EngineDeadError
        ids = prompt["prompt_token_ids"]
        if lora is not None and not self.args.enable_lora:
            raise VLLMValidationError(f"Got lora_request {lora} but LoRA is not enabled!")
        if len(ids) >= self.model_config.max_model_len:
            raise VLLMValidationError(f"The decoder prompt (length {len(ids)}) is longer than the maximum model length.")
        if any(id_ >= self.model_config.vocab_size for id_ in params.stop_token_ids or ()):
            raise VLLMValidationError("token_id(s) in stop_token_ids contain out-of-vocab token ids.")
        assert params.output_kind == RequestOutputKind.DELTA
        assert request_id not in self.requests
        request = Request(request_id, list(ids), params, lora)
        self.requests[request_id] = request
        self.asked.append(request)
        return request

    async def _busy_loop(self) -> None:
        while True:
            for request in list(self.requests.values()):
                if self.deadly_token in request.prompt:
                    self.engine_dead = True
                    for each in self.requests.values():
                        each.queue.put(EngineDeadError())
                    return
                for _ in range(0 if self.is_paused else self.steps_at_once):
                    if request.request_id in self.requests:
                        self._step(request)
            await asyncio.sleep(0 if self.requests and not self.is_paused else 0.002)

    def _step(self, request: Request) -> None:
        token = self._next_token(request)
        request.output.append(token)
        params, stop_reason, reason = request.params, None, None
        if token in (params.stop_token_ids or ()):
            reason, stop_reason = "stop", token
        elif len(request.prompt) + len(request.output) >= self.model_config.max_model_len or len(request.output) >= (params.max_tokens or 0):
            reason = "length"
        if reason:
            del self.requests[request.request_id]
        completion = CompletionOutput(index=0, text="", token_ids=[token], finish_reason=reason, stop_reason=stop_reason)
        request.queue.put(RequestOutput(request.request_id, request.prompt, [completion], finished=reason is not None))

    @torch.no_grad()
    def _next_token(self, request: Request) -> int:
        model = self.loras[request.lora.lora_int_id] if request.lora else self.model
        logits = model(input_ids=torch.tensor([[*request.prompt, *request.output]]), use_cache=False).logits[0, -1]
        if request.params.temperature == 0:
            return int(logits.argmax())
        order = logits.argsort(descending=True)
        probabilities = (logits[order] / request.params.temperature).softmax(-1)
        probabilities[probabilities.cumsum(-1) - probabilities >= request.params.top_p] = 0
        if request.params.top_k > 0:
            probabilities[request.params.top_k :] = 0
        return int(order[torch.multinomial(probabilities, 1, generator=request.generator)])
