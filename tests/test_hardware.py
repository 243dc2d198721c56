"""Which driver and which torch make a GPU that can be used."""

import ctypes
import importlib.metadata

import pytest

from tuneline.hardware import has_gpu


class Driver:
    """The two calls of the CUDA driver that are asked; 0 is success."""

    def __init__(self, *, count: int, init: int = 0) -> None:
        self.count, self.init = count, init

    def cuInit(self, _flags: int) -> int:  # noqa: N802  # the driver's own names
        return self.init

    def cuDeviceGetCount(self, count: object) -> int:  # noqa: N802
        ctypes.cast(count, ctypes.POINTER(ctypes.c_int))[0] = self.count  # type: ignore[arg-type]
        return 0


@pytest.mark.parametrize(
    ("driver", "torch", "expected"),
    [
        (None, "2.13.0", False),
        (Driver(count=0), "2.13.0", False),
        (Driver(count=8, init=100), "2.13.0", False),
        (Driver(count=1), "2.13.0+cpu", False),
        (Driver(count=1), "2.13.0+cu130", True),
        (Driver(count=1), "2.13.0", True),
        (Driver(count=2), None, True),
    ],
)
def test_a_gpu_needs_driver_device_and_a_torch_that_can_use_it(
    driver: Driver | None, torch: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    def load(name: str) -> Driver:
        assert name == "libcuda.so.1"
        if driver is None:
            raise OSError("no such library")
        return driver

    def version(_name: str) -> str:
        if torch is None:
            raise importlib.metadata.PackageNotFoundError
        return torch

    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr(importlib.metadata, "version", version)
    assert has_gpu() is expected
