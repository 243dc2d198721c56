"""The only commands that a custom job can start here: Tuneline's own steps. Pure.

    python -m tuneline.steps.NAME ...
    python -m torch.distributed.run OPTIONS -m tuneline.steps.NAME ...

Options and environment variables that could lead to other code are refused, too: paths of modules and libraries, and addresses of other
machines, because torch's processes send each other pickles.
"""

import pkgutil
from collections.abc import Sequence

from tuneline import steps
from tuneline.errors import did_you_mean

PYTHON = ("python", "python3")
TORCHRUN = "torch.distributed.run"
ONLY = "this service starts nothing but Tuneline's steps: python -m tuneline.steps.NAME, or the same by python -m torch.distributed.run"
NAMES = tuple(module.name for module in pkgutil.iter_modules(steps.__path__))

_PACKAGE = "tuneline.steps."
_FLAGS = ("standalone",)
_ADDRESSES = ("master-addr", "rdzv-endpoint")
_OPTIONS = ("nnodes", "nproc-per-node", "node-rank", *_ADDRESSES, "master-port", "rdzv-backend", "rdzv-id", "max-restarts", "monitor-interval")
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_VARIABLES = (
    *("CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "NCCL_DEBUG", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "OMP_NUM_THREADS", "OMP_WAIT_POLICY"),
    *("TOKENIZERS_PARALLELISM", "PYTHONHASHSEED", "PYTHONUNBUFFERED", "LANG", "TZ", "HF_HUB_OFFLINE", "STORAGE_EMULATOR_HOST"),
    "VERTEX_AI_PIPELINES_RUN_LABELS",
)
_PREFIXES = ("TUNELINE_", "GOOGLE_CLOUD_")


def command_problem(words: Sequence[str]) -> str:
    """Why a command is not started; nothing for one of ours."""
    if tuple(words[1:2]) != ("-m",) or words[0] not in PYTHON or len(words) < 3:
        return f"found {' '.join(words[:3])!r}; {ONLY}."
    if words[2] != TORCHRUN:
        return _module_problem(words[2])
    rest = list(words[3:])
    while rest and rest[0] not in ("-m", "--module"):
        given, equals, value = rest.pop(0).partition("=")
        name = given.removeprefix("--").replace("_", "-")
        if not given.startswith("--") or name not in (*_OPTIONS, *_FLAGS):
            known = ", ".join(f"--{option}" for option in (*_FLAGS, *_OPTIONS))
            return f"found {given!r} after {TORCHRUN}; expected {known}, then -m tuneline.steps.NAME."
        if name in _OPTIONS and not equals:
            value = rest.pop(0) if rest else ""
        if name in _ADDRESSES and value not in _LOOPBACK and value.rpartition(":")[0] not in _LOOPBACK:
            return f"--{name}: found {value!r}; expected an address of this machine, such as 127.0.0.1: all replicas run here."
    return _module_problem(rest[1]) if len(rest) > 1 else f"found {TORCHRUN} without -m tuneline.steps.NAME; {ONLY}."


def variable_problem(name: str) -> str:
    """Why an environment variable is not passed on; nothing for one that may be."""
    if name in _VARIABLES or name.startswith(_PREFIXES):
        return ""
    return f"found {name!r}; expected one of {', '.join((*(f'{prefix}*' for prefix in _PREFIXES), *_VARIABLES))}. A job has the service's own environment."


def _module_problem(module: str) -> str:
    name = module.removeprefix(_PACKAGE)
    if module.startswith(_PACKAGE) and name in NAMES:
        return ""
    return f"found the module {module!r}; {ONLY}.{did_you_mean(module, [f'{_PACKAGE}{known}' for known in NAMES])}"
