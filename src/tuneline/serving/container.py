"""What a container gives a process less of: cores, and a home directory."""

import os
import tempfile
from pathlib import Path

from tuneline.registry import home

CPU_QUOTAS = (Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"))
"""Of cgroups version 2 and 1."""


def num_cores() -> int:
    """Cores that this process may use: those that it is bound to, or what its quota comes to."""
    quotas = [cores for path in CPU_QUOTAS if (cores := quota(path))]
    return min([len(os.sched_getaffinity(0)), *quotas])


def quota(path: Path) -> int | None:
    """The cores that a quota file allows, rounded down to at least one; nothing where there is no file or no limit."""
    try:
        limit, *rest = path.read_text().split()
        period = rest[0] if rest else path.with_name("cpu.cfs_period_us").read_text()
        return max(int(limit) // int(period), 1) if int(limit) > 0 else None
    except (OSError, ValueError):  # "max" is no number
        return None


def settle() -> None:
    """Make the surroundings such that the libraries can start. To be called before torch is loaded."""
    # Spinning threads starve everything else on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Libraries keep caches in the home directory. A container's user often has none, or none that it may write to.
    if not os.access(os.path.expanduser("~"), os.W_OK):  # noqa: PTH111  # Path.expanduser raises where the user has none
        os.environ.setdefault("TUNELINE_HOME", str(Path(tempfile.gettempdir()) / "tuneline"))
        home().mkdir(parents=True, exist_ok=True)
        os.environ["HOME"] = str(home())
