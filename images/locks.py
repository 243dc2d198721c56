"""Write the locks anew: `python -m images.locks [FOLDER ...]`.

uv resolves each `requirements.in` with the versions of constraints.txt for 64-bit Linux on Intel and Python 3.11. Of every package the lock
keeps the wheels that install there, or the source archive where there is no wheel. uv reads no pip configuration: give another index or
a folder with wheels by UV_DEFAULT_INDEX, UV_INDEX or UV_FIND_LINKS. For the CPU locks one of them has to offer torch without CUDA.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from images.roles import DEVICES, LOCKS, PREDICTOR, ROOT, SHARED, TUNER, Lock, lock_of, normal, pinned

HEADER = "# Written by `make locks` from {source}. Linux, x86_64, Python 3.11.\n"
SHARED_HEADER = "# Written by `make locks`: what the locks of tuner-gpu and predictor have in common.\n"
PYTHON = (3, 11)
GLIBC_MINOR = 36
"""Debian 12, the system of the base image."""
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(GLIBC_MINOR, 4, -1)] + [
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
    "manylinux1_x86_64",
    "linux_x86_64",
]
INSTALLABLE: frozenset[Tag] = frozenset([*cpython_tags(PYTHON, platforms=PLATFORMS), *compatible_tags(PYTHON, "cp311", PLATFORMS)])


def main(argv: Sequence[str]) -> int:
    """Write the locks of the named folders, or all."""
    parser = argparse.ArgumentParser(prog="python -m images.locks", description="Write the locks anew.")
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="base, tuner-gpu or predictor; all without one")
    wanted = parser.parse_args(argv).folders
    if unknown := set(wanted) - {lock.folder for lock in LOCKS}:
        parser.error(f"no such folder: {', '.join(sorted(unknown))}")
    for lock in LOCKS:
        if not wanted or lock.folder in wanted:
            packages = resolve(lock)
            lock.file.write_text("".join([HEADER.format(source=lock.source.relative_to(ROOT)), *render(packages)]), encoding="utf-8")
            print(f"{lock.file.relative_to(ROOT)}: {len(packages)} packages, {download_bytes(packages) / 1e6:,.0f} MB of known downloads")
    for device in DEVICES:
        locks = [lock_of(role, device).file.read_text(encoding="utf-8") for role in (TUNER, PREDICTOR)]
        SHARED[device].write_text(SHARED_HEADER + "".join(common(*locks)), encoding="utf-8")
    return 0


def resolve(lock: Lock) -> list[Mapping[str, Any]]:
    """The packages that uv finds, as a pylock.toml has them."""
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    with tempfile.TemporaryDirectory() as folder:
        kept, excluded, result = (Path(folder, name) for name in ("constraints.txt", "excluded.txt", "pylock.toml"))
        kept.write_text("".join(f"{name}{equals(name, lock)}{version}\n" for name, version in pinned(constraints) if name not in lock.freed), encoding="utf-8")
        excluded.write_text("".join(f"{name}\n" for name in lock.excluded), encoding="utf-8")
        platform = f"x86_64-manylinux_2_{GLIBC_MINOR}"
        command = [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "compile",
            "--quiet",
            "--format",
            "pylock.toml",
            "--python-version",
            "3.11",
            "--python-platform",
            platform,
        ]
        command += ["--constraint", str(kept), "--excludes", str(excluded), "--output-file", str(result), str(lock.source)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        packages: list[Mapping[str, Any]] = tomllib.loads(result.read_text(encoding="utf-8"))["packages"]
    return packages


def equals(name: str, lock: Lock) -> str:
    """The operator of a constraint. `==2.13.0` takes torch 2.13.0+cpu too, which a GPU must not get."""
    return "===" if (name, lock.device) == ("torch", "gpu") else "=="


def render(packages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The lock's lines."""
    for package in sorted(packages, key=lambda package: normal(package["name"])):
        hashes = sorted(file["hashes"]["sha256"] for file in files_of(package))
        yield " \\\n".join([f"{package['name']}=={package['version']}", *(f"    --hash=sha256:{value}" for value in hashes)]) + "\n"


def common(one: str, other: str) -> list[str]:
    """The packages, with version and hashes, that two locks have in common."""
    mine, theirs = (re.findall(r"^[^#\s].*\n(?: +--hash=.*\n)*", text, flags=re.MULTILINE) for text in (one, other))
    return [package for package in mine if package in theirs]


def files_of(package: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The wheels that can be installed in the images, or the source archive."""
    wheels = [wheel for wheel in package.get("wheels", ()) if parse_wheel_filename(unquote(wheel["url"]).rpartition("/")[2])[3] & INSTALLABLE]
    return wheels or [package["sdist"]]


def download_bytes(packages: Sequence[Mapping[str, Any]]) -> int:
    """What pip fetches, as far as the index tells sizes."""
    return sum(max(file.get("size", 0) for file in files_of(package)) for package in packages)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
