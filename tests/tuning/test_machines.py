"""How each machine of a job starts its processes."""

import json
import sys

import pytest

from tuneline.errors import ParameterError
from tuneline.tuning.machines import Machines, command

TRAINER = {"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_MASTER_ADDR": "job-node-0-0.job", "PET_MASTER_PORT": "29400", "PET_NPROC_PER_NODE": "8"}


def cluster_spec(task: str, index: int, others: int) -> dict[str, str]:
    pools = {"workerpool0": ["first:2222"], "workerpool1": [f"other-{number}:2222" for number in range(others)]}
    return {"CLUSTER_SPEC": json.dumps({"cluster": {name: hosts for name, hosts in pools.items() if hosts}, "task": {"type": task, "index": index}})}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Machines()),
        (cluster_spec("workerpool0", 0, 0), Machines()),
        (cluster_spec("workerpool0", 0, 2), Machines(index=0, count=3, master_address="first", master_port=2222)),
        (cluster_spec("workerpool1", 1, 2), Machines(index=2, count=3, master_address="first", master_port=2222)),
        ({"PET_NNODES": "1"}, Machines()),
        (TRAINER, Machines(index=1, count=2, master_address="job-node-0-0.job", master_port=29400)),
        ({**TRAINER, "PET_NNODES": "2:2"}, Machines(index=1, count=2, master_address="job-node-0-0.job", master_port=29400)),
    ],
    ids=str,
)
def test_each_platform_tells_a_machine_which_it_is(environment: dict[str, str], expected: Machines) -> None:
    assert Machines.from_environment(environment) == expected


@pytest.mark.parametrize("change", [{"PET_NODE_RANK": "2"}, {"PET_NODE_RANK": ""}, {"PET_MASTER_ADDR": ""}, {"PET_MASTER_PORT": "x"}, {"PET_NNODES": "many"}])
def test_half_a_description_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(ParameterError, match="PET_NNODES"):
        Machines.from_environment({**TRAINER, **change})


def test_one_process_in_all_needs_no_torchrun() -> None:
    assert command("tuneline.steps.tune_model", ["--seed", "1"], Machines(), processes=1) == [sys.executable, "-m", "tuneline.steps.tune_model", "--seed", "1"]


def test_more_are_started_by_torchrun_at_one_address() -> None:
    machines = Machines(index=1, count=2, master_address="first", master_port=2222)
    assert command("tuneline.steps.tune_model", ["--seed", "1"], machines, processes=8) == [
        sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=8", "--node-rank=1", "--master-addr=first", "--master-port=2222",
        "--shutdown-timeout=600", "-m", "tuneline.steps.tune_model", "--seed", "1",
    ]  # fmt: skip
