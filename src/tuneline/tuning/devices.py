"""Where tuning computes, and in which number format."""

import logging
import os
from dataclasses import dataclass

import torch

from tuneline.errors import InfrastructureError, ParameterError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Device:
    """A place to compute. Weights and optimizer are fp32 everywhere; matrices are multiplied in `dtype`."""

    torch_device: torch.device
    dtype: torch.dtype
    tokens_per_row: int
    """Longest packed row (one longer example has a row of its own): bounds the memory of a step."""


CPU = Device(torch.device("cpu"), torch.float32, 4_096)
"""fp32: without matrix units for bf16 (AMX) a CPU multiplies bf16 at about half the speed of fp32."""


def prepare_device(accelerator_type: str, local_rank: int | None = None) -> Device:
    """The GPU if there is one, else the CPU with every core that this process may use (or OMP_NUM_THREADS).

    `accelerator_type` is what was resolved, e.g. `NVIDIA_A100_80GB`; empty for none. `local_rank` is the number of the process on
    its machine where there is one process a GPU.
    """
    if accelerator_type.startswith("TPU"):
        raise ParameterError(f"the job was resolved to {accelerator_type}; expected a GPU or a CPU.", next_action="Leave accelerator_type out, or say GPU.")
    if torch.cuda.is_available():
        gpus = torch.cuda.device_count()
        if local_rank is None and gpus > 1:
            log.warning("gpus=%d: tuning uses one of them; torchrun starts one process a GPU.", gpus)
        if local_rank is not None and local_rank >= gpus:
            raise InfrastructureError(
                f"LOCAL_RANK is {local_rank}, but this process sees {gpus} GPU(s).", next_action="Start one process a GPU: torchrun --nproc-per-node gpu"
            )
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
        return Device(torch.device("cuda", local_rank or 0), dtype, 8_192)
    if accelerator_type:
        raise InfrastructureError(
            f"no GPU can be used here, but the job was resolved to {accelerator_type}.",
            next_action="Check the driver and the machine of this task, or leave accelerator_type out to tune on the CPU.",
        )
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return CPU
