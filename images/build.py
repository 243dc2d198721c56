"""Build the images: `python -m images.build [--engine docker|podman] [--device cpu|gpu] [--base-image REF] [ROLE ...]`.

Prints what was built, and writes the bill of materials of each image to dist/sbom. The images get the names that the templates use.
"""

import argparse
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from images.engine import EARLIEST, Engine, Image, find_engine
from images.roles import DEVICES, PREDICTOR, ROLES, ROOT, Role, lock_of
from images.sbom import INVENTORY, make_sbom, read_inventory
from scripts import torch_index
from tuneline import __version__
from tuneline.errors import InfrastructureError, TunelineError

REGISTRY = "docker.io"
"""Where a name without a host lies: Docker leaves it out, podman finds the images of a template by it."""
WHEELS = ROOT / "dist" / "images"
SBOMS = ROOT / "dist" / "sbom"


@dataclass(frozen=True, kw_only=True)
class Built:
    """An image and how long it took."""

    image: Image
    seconds: float


def main(argv: Sequence[str]) -> int:
    """Build what was asked for. The exit code is that of the error, if any."""
    options = _parse(argv)
    try:
        engine = find_engine(options.engine)
        make_wheel()
        built = [build(engine, ROLES[name], options) for name in options.roles or ROLES]
    except TunelineError as error:
        print(f"{error} {error.next_action}".strip(), file=sys.stderr)
        return error.exit_code
    print(table(built))
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m images.build", description="Build the container images.")
    parser.add_argument("roles", nargs="*", metavar="ROLE", choices=[*ROLES, []], help=f"{', '.join(ROLES)}; all without one")
    parser.add_argument("--engine", choices=("docker", "podman"), help="the one that answers, when not given")
    parser.add_argument("--device", choices=DEVICES, help="whose torch tuner-gpu and predictor hold; cpu on a machine without an NVIDIA GPU")
    parser.add_argument(
        "--base-image", default=os.environ.get("BASE_IMAGE", ""), metavar="REF", help="Python 3.11 on Debian 12; the Dockerfiles' own by default"
    )
    parser.add_argument("--no-cache", action="store_true", help="build every layer anew")
    options = parser.parse_args(argv)
    options.device = options.device or ("gpu" if shutil.which("nvidia-smi") else "cpu")
    return options


def make_wheel() -> None:
    """Build the wheel, alone in its folder, from a copy of the sources: setuptools would pack what an earlier build has left among them."""
    WHEELS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, folder)
        shutil.copytree(ROOT / "src", Path(folder, "src"), ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", f"{folder}/dist", folder]
        done = subprocess.run(command, env={**os.environ, "SOURCE_DATE_EPOCH": str(EARLIEST)}, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InfrastructureError(f"The wheel could not be built: {done.stdout[-500:]}{done.stderr[-500:]}", next_action="make install")
        (wheel,) = Path(folder, "dist").glob("*.whl")
        for old in WHEELS.glob("*.whl"):
            if old.name != wheel.name:
                old.unlink()
        shutil.copy(wheel, WHEELS / f"{wheel.name}.part")
        (WHEELS / f"{wheel.name}.part").replace(WHEELS / wheel.name)


def build(engine: Engine, role: Role, options: argparse.Namespace) -> Built:
    """Build one image, and write its bill of materials."""
    name = f"{REGISTRY}/tuneline/{role.name}:{__version__}"
    start = time.monotonic()
    engine.build(
        role.dockerfile,
        name,
        arguments_of(role, options.device, options.base_image, os.environ),
        labels=labels(),
        context=ROOT,
        use_cache=not options.no_cache,
    )
    seconds = time.monotonic() - start
    image = engine.inspect(name)
    inventory = read_inventory(engine.run_python(name, INVENTORY.read_text(encoding="utf-8")))
    if role == PREDICTOR and options.device == "gpu" and not inventory["compiler"]:
        print(f"{name}: vLLM needs a C compiler when it runs. Give --base-image a Python image that has gcc; see docs/images.md.", file=sys.stderr)
    SBOMS.mkdir(parents=True, exist_ok=True)
    lock = lock_of(role, options.device).file.read_text(encoding="utf-8")
    (SBOMS / f"{role.name}-{__version__}.cdx.json").write_text(make_sbom(image, inventory, lock), encoding="utf-8")
    return Built(image=image, seconds=seconds)


def arguments_of(role: Role, device: str, base_image: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The build arguments."""
    arguments = {"BASE_IMAGE": base_image} if base_image else {}
    if role.has_devices:
        arguments["DEVICE"] = device
        if index := environment.get("PIP_EXTRA_INDEX_URL") or (cpu_index() if device == "cpu" else ""):
            arguments["PIP_EXTRA_INDEX_URL"] = index
    return arguments


@functools.cache
def cpu_index() -> str:
    """PyTorch's own index of builds without CUDA, if it can be reached. pip's settings have to offer one otherwise."""
    return torch_index.CPU_INDEX if torch_index.answers() else ""


def labels() -> dict[str, str]:
    """What the Dockerfile cannot know: the version, and the commit, marked when the working tree differs from it."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        revision = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        revision = ""
    return {"org.opencontainers.image.version": __version__, "org.opencontainers.image.revision": revision or "unknown"}


def table(built: Sequence[Built]) -> str:
    """What was built, one line each."""
    rows = [("image", "size (MB)", "layers", "build (s)")]
    rows += [(one.image.name, f"{one.image.size_bytes / 1e6:,.0f}", str(one.image.num_layers), f"{one.seconds:.1f}") for one in built]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]) for row in rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
