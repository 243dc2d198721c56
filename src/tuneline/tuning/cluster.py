"""Which of how many tuning processes this one is, as Vertex AI, torchrun or Kubeflow Trainer put it into the environment. Pure.

CLUSTER_SPEC   Vertex AI's; one process a machine: worker pool 0 is rank 0, the machines of worker pool 1 follow
RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT   torchrun's, which Kubeflow Trainer's runtimes start; one process a GPU
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tuneline.errors import ParameterError

TRAINING_POOLS = ("workerpool0", "workerpool1")
"""The other pools of Vertex AI are for reduction servers, parameter servers and evaluators. They hold no ranks."""
EXAMPLE = '{"cluster": {"workerpool0": ["HOST:PORT"], "workerpool1": ["HOST:PORT"]}, "task": {"type": "workerpool1", "index": 0}}'
UNSET = f"To tune in one process unset CLUSTER_SPEC; for several it is, as Vertex AI sets it: {EXAMPLE}"
BY_TORCHRUN = "Start the processes by torchrun, which sets all of them: torchrun --nnodes N --nproc-per-node M -m tuneline.steps.tune_model ..."


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """This process among those that tune one model together. The default is a process by itself."""

    rank: int = 0
    world_size: int = 1
    master_address: str = ""
    """Where rank 0 listens."""
    master_port: int = 0
    local_rank: int | None = None
    """Number of this process on its machine, and so its GPU; unset where a machine has one process."""
    agent_listens: bool = False
    """Whether torchrun itself holds the master's port, so that rank 0 must not."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Cluster":
        """Read the variables. torchrun inside a Vertex AI job wins over CLUSTER_SPEC, which knows machines but not processes."""
        given = {name: value for name, value in environment.items() if value}
        if "CLUSTER_SPEC" in given and not {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= given.keys():
            return _from_cluster_spec(given["CLUSTER_SPEC"])
        if {"RANK", "WORLD_SIZE"} & given.keys():
            return _from_torch_variables(given)
        # Each of these processes would tune by itself, and write where the others write.
        if (nodes := given.get("PET_NNODES", "1")) not in ("1", "1:1"):
            raise ParameterError(f"PET_NNODES is {nodes!r}, but RANK and WORLD_SIZE are not set; expected torchrun to set them.", next_action=BY_TORCHRUN)
        return cls()


def _from_cluster_spec(text: str) -> Cluster:
    try:
        spec = json.loads(text)
    except ValueError as error:
        raise ParameterError(f"CLUSTER_SPEC is no JSON ({error}): {text[:200]!r}.", next_action=UNSET) from None
    pools, task = (spec.get(name) if isinstance(spec, dict) else None for name in ("cluster", "task"))
    if not isinstance(pools, dict) or not isinstance(task, dict):
        raise ParameterError(f"CLUSTER_SPEC is {text[:200]!r}; expected an object with the objects 'cluster' and 'task'.", next_action=UNSET)
    machines = {name: pools.get(name, []) for name in TRAINING_POOLS}
    for name, hosts in machines.items():
        if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
            raise ParameterError(f"CLUSTER_SPEC: {name} is {hosts!r}; expected a list of HOST:PORT.", next_action=UNSET)
    if len(machines["workerpool0"]) != 1:
        raise ParameterError(f"CLUSTER_SPEC: workerpool0 is {machines['workerpool0']!r}; expected one HOST:PORT, that of rank 0.", next_action=UNSET)
    pool, index = task.get("type"), task.get("index")
    if pool not in TRAINING_POOLS:
        raise ParameterError(
            f"CLUSTER_SPEC: this task's type is {pool!r}; expected workerpool0 or workerpool1.",
            next_action="Run the tuner in worker pool 0 (one replica) and worker pool 1 (all others); the other pools are for other programs.",
        )
    if not isinstance(index, int) or not 0 <= index < len(machines[pool]):
        raise ParameterError(f"CLUSTER_SPEC: this task's index is {index!r}, and {pool} is {machines[pool]!r}; expected a place in it.", next_action=UNSET)
    world_size = sum(map(len, machines.values()))
    if world_size == 1:
        return Cluster()
    address, port = _split(machines["workerpool0"][0])
    return Cluster(rank=index + (pool != "workerpool0"), world_size=world_size, master_address=address, master_port=port)


def _split(host: str) -> tuple[str, int]:
    address, _, port = host.rpartition(":")
    if not address or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ParameterError(f"CLUSTER_SPEC: workerpool0 is {host!r}; expected HOST:PORT.", next_action=UNSET)
    return address.removeprefix("[").removesuffix("]"), int(port)


def _from_torch_variables(given: Mapping[str, str]) -> Cluster:
    problems: list[str] = []

    def number(name: str, least: int, below: int) -> int:
        text = given.get(name, "")
        if text.isdecimal() and least <= int(text) < below:
            return int(text)
        problems.append(f"{name} is {text!r}; expected a whole number from {least} to {below - 1}." if text else f"{name} is not set.")
        return least

    world_size = number("WORLD_SIZE", 1, 2**20)
    rank = number("RANK", 0, world_size)
    local_rank = number("LOCAL_RANK", 0, world_size) if "LOCAL_RANK" in given else None
    address, port = given.get("MASTER_ADDR", ""), 0
    if world_size > 1:
        port = number("MASTER_PORT", 1, 2**16)
        problems += [] if address else ["MASTER_ADDR is not set."]
    if problems:
        raise ParameterError(*problems, next_action=BY_TORCHRUN)
    if world_size == 1:
        return Cluster(local_rank=local_rank)
    agent_listens = given.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return Cluster(rank=rank, world_size=world_size, master_address=address, master_port=port, local_rank=local_rank, agent_listens=agent_listens)
