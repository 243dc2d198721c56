"""Runs inside an image and prints what is installed there, as JSON. Standard library only."""

import json
import platform
import shutil
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

DPKG_STATUS = Path("/var/lib/dpkg/status")
BASE_PACKAGES = Path(sys.base_prefix, "lib", f"python{sys.version_info.major}.{sys.version_info.minor}", "site-packages")
"""What the base image's own Python has: pip, above all."""


def main() -> None:
    """Print the Python distributions, the Debian packages, the version of Python, the system, and its C compiler if it has one."""
    found = {
        distribution["name"] + distribution["version"]: distribution for distribution in map(_describe, distributions(path=[*sys.path, str(BASE_PACKAGES)]))
    }
    facts = {
        "python": list(found.values()),
        "debian": _debian(),
        "interpreter": platform.python_version(),
        "system": platform.freedesktop_os_release(),
        "compiler": shutil.which("gcc") or shutil.which("clang"),
    }
    print(json.dumps(facts))


def _describe(distribution: Distribution) -> dict[str, str]:
    metadata = distribution.metadata
    classifiers = [line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier") or () if line.startswith("License :: ")]
    stated = next((metadata[key] for key in ("License-Expression", "License") if key in metadata), "")
    is_short = stated and len(stated) < 100 and "\n" not in stated  # some packages put the whole text there
    return {"name": metadata["Name"], "version": distribution.version, "licence": stated if is_short else " AND ".join(classifiers)}


def _debian() -> list[dict[str, str]]:
    if not DPKG_STATUS.exists():
        return []
    blocks = DPKG_STATUS.read_text(encoding="utf-8").split("\n\n")
    packages = [dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(" ")) for block in blocks]
    return [
        {"name": package["Package"], "version": package["Version"], "architecture": package["Architecture"]}
        for package in packages
        if package.get("Status", "").endswith(" installed")
    ]


if __name__ == "__main__":
    main()
