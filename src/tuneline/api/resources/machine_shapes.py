"""Which accelerators a machine type has, or may be given. Pure. Not from the catalogue: this is what its choices are checked against.

Source: Compute Engine's GPU machine types and Vertex AI's training machines, 2026-11.
"""

import re

from tuneline.api.resources.endpoint_messages import MachineSpec

NONE = "ACCELERATOR_TYPE_UNSPECIFIED"
_TYPE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+")
FIXED = {
    **{f"a2-highgpu-{count}g": ("NVIDIA_TESLA_A100", count) for count in (1, 2, 4, 8)},
    "a2-megagpu-16g": ("NVIDIA_TESLA_A100", 16),
    **{f"a2-ultragpu-{count}g": ("NVIDIA_A100_80GB", count) for count in (1, 2, 4, 8)},
    **{f"a3-highgpu-{count}g": ("NVIDIA_H100_80GB", count) for count in (1, 2, 4, 8)},
    "a3-megagpu-8g": ("NVIDIA_H100_MEGA_80GB", 8),
    "a3-ultragpu-8g": ("NVIDIA_H200_141GB", 8),
    "a4-highgpu-8g": ("NVIDIA_B200", 8),
    "a4x-highgpu-4g": ("NVIDIA_GB200", 4),
    **{f"g2-standard-{cores}": ("NVIDIA_L4", count) for cores, count in ((4, 1), (8, 1), (12, 1), (16, 1), (24, 2), (32, 1), (48, 4), (96, 8))},
    **{f"g4-standard-{cores}": ("NVIDIA_RTX_PRO_6000", count) for cores, count in ((48, 1), (96, 2), (192, 4), (384, 8))},
}
"""Machine types that come with their accelerators."""
ATTACHABLE = {
    "n1-": {
        "NVIDIA_TESLA_K80": (1, 2, 4, 8), "NVIDIA_TESLA_P4": (1, 2, 4), "NVIDIA_TESLA_P100": (1, 2, 4), "NVIDIA_TESLA_T4": (1, 2, 4),
        "NVIDIA_TESLA_V100": (1, 2, 4, 8),
    },
    "cloud-tpu": {"TPU_V2": (8, 32, 128, 256, 512), "TPU_V3": (8, 32, 64, 128, 256, 512, 1024, 2048)},
}  # fmt: skip
"""Machine types, by how they begin, and what they may be given: how many of each. TPUs are counted in cores."""
TOPOLOGY = ("ct4p-", "ct5lp-", "ct5p-", "ct6e-")
"""TPU machines whose number is said by `tpuTopology`."""


def machine_problem(machine: MachineSpec) -> str:
    """Why there is no such machine; nothing for one that there is."""
    kind, accelerator, count = machine.machine_type, machine.accelerator_type, machine.accelerator_count
    if not _TYPE.fullmatch(kind):
        return f"machineType: found {kind!r}; expected a machine type such as n1-standard-8."
    found = "no accelerator" if accelerator == NONE and not count else f"{count} x {accelerator}"
    if kind in FIXED:
        has = FIXED[kind]
        return "" if (accelerator, count) == has else f"acceleratorType, acceleratorCount: found {found}; expected {has[1]} x {has[0]}, which {kind} has."
    if kind.startswith(TOPOLOGY):
        return "" if re.fullmatch(r"\d+x\d+(x\d+)?", machine.tpu_topology) else f"tpuTopology: found {machine.tpu_topology!r}; expected one such as 2x4."
    allowed = next((counts for start, counts in ATTACHABLE.items() if kind.startswith(start)), {})
    if found == "no accelerator" and kind != "cloud-tpu":
        return ""
    if count in allowed.get(accelerator, ()):
        return ""
    expected = "; ".join(f"{name} ({', '.join(map(str, counts))})" for name, counts in allowed.items())
    return f"acceleratorType, acceleratorCount: found {found}; expected {expected or 'none'} with {kind}."
