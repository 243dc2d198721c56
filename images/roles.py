"""What there is to build: the roles, the modules that each of them runs, and the locks that their packages come from."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(__file__).resolve().parent

Device = Literal["cpu", "gpu"]
DEVICES: tuple[Device, ...] = ("cpu", "gpu")


@dataclass(frozen=True, kw_only=True)
class Role:
    """An image."""

    name: str
    modules: tuple[str, ...]
    """What is started in it with `python -m`."""
    has_devices: bool = True
    """Whether it comes for CPU and for GPU."""

    @property
    def dockerfile(self) -> Path:
        """Beside the role's requirements."""
        return FOLDER / self.name / "Dockerfile"


BASE = Role(
    name="base",
    modules=tuple(
        f"tuneline.steps.{step}" for step in ("validate_parameters", "transform_dataset", "select_checkpoint", "upload_model", "deploy_model", "undeploy_model")
    ),
    has_devices=False,
)
TUNER = Role(name="tuner-gpu", modules=("tuneline.steps.tune_model", "tuneline.steps.evaluate_model", "tuneline.steps.staged"))
PREDICTOR = Role(name="predictor", modules=("tuneline.serving.server", "tuneline.serving.health"))
ROLES = {role.name: role for role in (BASE, TUNER, PREDICTOR)}

COMMAND_LINES = ("typer",)
"""The command line of transformers, with rich and what it wants in turn."""
DASHBOARD = ("markdown", "tensorboard-data-server", "werkzeug")
"""The web pages of TensorBoard; a step only writes event files."""


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A list of packages with their hashes, and what it is made from."""

    folder: str
    device: Device | None = None
    requirements: str = "requirements.in"
    excluded: tuple[str, ...] = ()
    """Distributions that a package asks for and no module of the image imports."""
    freed: tuple[str, ...] = ()
    """Distributions whose version differs from constraints.txt."""

    @property
    def file(self) -> Path:
        """Where it is written."""
        return FOLDER / self.folder / (f"requirements-{self.device}.txt" if self.device else "requirements.txt")

    @property
    def source(self) -> Path:
        """What it is compiled from."""
        return FOLDER / self.folder / self.requirements


LOCKS = (
    Lock(folder="base"),
    *(Lock(folder="tuner-gpu", device=device, excluded=COMMAND_LINES + DASHBOARD) for device in DEVICES),
    Lock(folder="predictor", device="cpu", excluded=COMMAND_LINES),
    # vLLM 0.32.0 wants transformers below 5.20, fastapi below 0.137 and, through mistral-common, numpy below 2.4.
    Lock(folder="predictor", device="gpu", requirements="requirements-gpu.in", freed=("fastapi", "numpy", "transformers")),
)


SHARED = {device: FOLDER / "shared" / f"requirements-{device}.txt" for device in DEVICES}
"""What the locks of tuner-gpu and predictor have in common: installed first, so that both builds share it."""


def lock_of(role: Role, device: Device) -> Lock:
    """The lock that an image is built from."""
    wanted = device if role.has_devices else None
    return next(lock for lock in LOCKS if (lock.folder, lock.device) == (role.name, wanted))


def pinned(lines: Iterator[str] | list[str]) -> Iterator[tuple[str, str]]:
    """Name and version of every `name==version` line of a lock or a constraints file, the name in its normal form."""
    for line in lines:
        name, separator, version = line.split(" ")[0].strip().partition("==")
        if separator:
            yield normal(name), version


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return name.lower().replace("_", "-").replace(".", "-")
