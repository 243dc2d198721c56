"""The machines of one job as Vertex AI or Kubeflow Trainer describes them, and the command that starts a process for each accelerator of this one.

CLUSTER_SPEC   Vertex AI's
PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR, PET_MASTER_PORT   Kubeflow Trainer's, which torchrun reads
"""

import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuneline.errors import ParameterError
from tuneline.tuning.cluster import Cluster

SHUTDOWN_SECONDS = 600
"""How long torchrun lets the processes save after SIGTERM. Whoever sent it has less patience, and kills all of them."""


@dataclass(frozen=True, kw_only=True)
class Machines:
    """This machine among those of its job. The default is a machine by itself."""

    index: int = 0
    count: int = 1
    master_address: str = "127.0.0.1"
    master_port: int = 0
    """Where rank 0 listens; 0 for one that `free_port` finds."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Machines":
        """Read the variables."""
        if spec := environment.get("CLUSTER_SPEC"):
            cluster = Cluster.from_environment({"CLUSTER_SPEC": spec})  # one process a machine, until torchrun has started more
            if cluster.world_size == 1:
                return cls()
            return cls(index=cluster.rank, count=cluster.world_size, master_address=cluster.master_address, master_port=cluster.master_port)
        count = environment.get("PET_NNODES", "1").partition(":")[0]
        if count in ("", "1"):
            return cls()
        rank, address, port = (environment.get(f"PET_{name}", "") for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT"))
        if not (count.isdecimal() and rank.isdecimal() and int(rank) < int(count) and address and port.isdecimal()):
            found = f"PET_NNODES={count!r} PET_NODE_RANK={rank!r} PET_MASTER_ADDR={address!r} PET_MASTER_PORT={port!r}"
            raise ParameterError(f"found {found}; expected them as Kubeflow Trainer sets them.", next_action="Use a runtime like torch-distributed.")
        return cls(index=int(rank), count=int(count), master_address=address, master_port=int(port))


def command(module: str, arguments: Sequence[str], machines: Machines, *, processes: int) -> list[str]:
    """The command that runs a step on this machine: by itself, or by torchrun when there is more than one process in all."""
    if machines.count == 1 and processes <= 1:
        return [sys.executable, "-m", module, *arguments]
    options = {
        "nnodes": machines.count, "nproc-per-node": max(1, processes), "node-rank": machines.index, "master-addr": machines.master_address,
        "master-port": machines.master_port, "shutdown-timeout": SHUTDOWN_SECONDS,
    }  # fmt: skip
    return [sys.executable, "-m", "torch.distributed.run", *(f"--{name}={value}" for name, value in options.items()), "-m", module, *arguments]


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
