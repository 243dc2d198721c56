"""Which engine serves a model: vLLM where there is a GPU and vLLM, else transformers."""

import importlib.util
import json
import logging
from pathlib import Path

import torch
from transformers import AutoConfig, PreTrainedConfig

from tuneline.data.base_model import check_configuration
from tuneline.data.tokens import load_tokenizer
from tuneline.serving.engine import Engine
from tuneline.serving.model_files import ServedModel
from tuneline.serving.predictor import Predictor

logger = logging.getLogger("tuneline.serving")

CACHE_BYTES = 512 << 20
"""Keys and values of all answers in the making, on a CPU. It bounds the context, too."""
CACHE_SHARE = 0.5
"""The same as a share of the GPU memory that the model leaves free."""


def load_predictor(model: ServedModel) -> Predictor:
    """The model, after it has answered once."""
    tokenizer = load_tokenizer(model.tokenizer_folder)
    check_configuration(model.folder)
    wanted = context_length(AutoConfig.from_pretrained(model.folder, local_files_only=True, trust_remote_code=False), model.tokenizer_folder)
    engine, context = _start_engine(model, tokenizer.end_of_turn_ids, wanted)
    logger.info("context_length=%d adapter=%s", context, model.adapter is not None)
    predictor = Predictor(engine, tokenizer, context)
    try:
        predictor.warm_up()
    except BaseException:
        predictor.close()  # its threads would keep the process alive
        raise
    return predictor


def context_length(config: PreTrainedConfig, tokenizer_folder: Path) -> int:
    """Positions that the model was made for; a tokenizer that knows a smaller number knows what it was trained with."""
    positions = int(config.get_text_config().max_position_embeddings)
    path = tokenizer_folder / "tokenizer_config.json"
    limit = json.loads(path.read_text(encoding="utf-8")).get("model_max_length") if path.exists() else None
    return min(positions, int(limit)) if limit else positions


def _start_engine(model: ServedModel, end_ids: frozenset[int], wanted: int) -> tuple[Engine, int]:
    """The engine, and the context that it has room for."""
    on_gpu = torch.cuda.is_available()
    if on_gpu and importlib.util.find_spec("vllm"):
        logger.info("engine=vllm gpus=%d", torch.cuda.device_count())
        from tuneline.serving.vllm_engine import VllmEngine

        vllm = VllmEngine(model, end_ids=end_ids, num_gpus=torch.cuda.device_count())
        return vllm, min(wanted, vllm.context_length)
    if on_gpu:
        logger.warning("engine=transformers device=cuda: vLLM is not installed; it would answer many clients faster")
    else:
        logger.info("engine=transformers device=cpu threads=%d", torch.get_num_threads())
    from tuneline.serving.batching import MAX_RUNNING, Batcher, capacity_tokens
    from tuneline.serving.merging import load_served_model

    dtype, device = (torch.bfloat16, torch.device("cuda")) if on_gpu else (torch.float32, torch.device("cpu"))
    loaded = load_served_model(model, dtype=dtype, device=device)
    capacity = min(capacity_tokens(loaded, _cache_bytes(device)), MAX_RUNNING * wanted)
    return Batcher(loaded, end_ids=end_ids, capacity_tokens=capacity), min(wanted, capacity)


def _cache_bytes(device: torch.device) -> int:
    return int(torch.cuda.mem_get_info()[0] * CACHE_SHARE) if device.type == "cuda" else CACHE_BYTES
