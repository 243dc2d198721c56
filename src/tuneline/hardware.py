"""What this machine can compute on, found without torch."""

import ctypes
import importlib.metadata


def has_gpu() -> bool:
    """Whether the NVIDIA driver offers a GPU to this process (it heeds CUDA_VISIBLE_DEVICES) and torch can use one."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0 and not _torch_is_for_cpu()


def _torch_is_for_cpu() -> bool:
    """Whether the installed torch was built without CUDA."""
    try:
        return importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:  # nothing here tunes; what is explained is another environment's job
        return False
