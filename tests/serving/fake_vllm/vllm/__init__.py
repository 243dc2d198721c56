"""A stand-in for the parts of vLLM 0.32 that are used: the same names, signatures, refusals and order of events, over a small model on the CPU."""

from dataclasses import dataclass

from vllm.sampling_params import SamplingParams

__all__ = ["AsyncEngineArgs", "SamplingParams"]


@dataclass
class AsyncEngineArgs:
    model: str = "Qwen/Qwen3-0.6B"
    skip_tokenizer_init: bool = False
    trust_remote_code: bool = False
    load_format: str = "auto"
    dtype: str = "auto"
    seed: int = 0
    max_model_len: int | None = None
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.92
    disable_log_stats: bool = False
    enable_lora: bool = False
    max_loras: int = 1
    max_lora_rank: int = 16
    generation_config: str = "auto"
    enable_log_requests: bool = False
