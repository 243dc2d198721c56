"""Who am I among how many: one table of environments."""

import json

import pytest

from tuneline.errors import ParameterError
from tuneline.tuning.cluster import Cluster

THREE = {"workerpool0": ["first:2222"], "workerpool1": ["second:2222", "third:2222"]}
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "29500"}


def spec(pools: object, pool: object = "workerpool0", index: object = 0, **more: object) -> dict[str, str]:
    value = {"cluster": pools, "environment": "cloud", "task": {"type": pool, "index": index, "trial": "1"}, "job": {"any": "thing"}, **more}
    return {"CLUSTER_SPEC": json.dumps(value)}


def first(rank: int, world_size: int = 3, **more: object) -> Cluster:
    return Cluster(rank=rank, world_size=world_size, master_address="first", master_port=2222, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Cluster()),
        ({"CLUSTER_SPEC": "", "RANK": "", "MASTER_ADDR": "somewhere", "MASTER_PORT": "1"}, Cluster()),
        (spec({"workerpool0": ["only:2222"]}), Cluster()),
        (spec({"workerpool0": ["only:2222"], "workerpool1": []}), Cluster()),
        (spec(THREE), first(0)),
        (spec(THREE, "workerpool1", 0), first(1)),
        (spec(THREE, "workerpool1", 1), first(2)),
        (spec({**THREE, "workerpool2": ["reduction:2222"], "workerpool3": ["evaluator:2222"]}, "workerpool1", 1), first(2)),
        (spec({"workerpool0": ["[fd00::1]:2222"], "workerpool1": ["[fd00::2]:2222"]}), Cluster(world_size=2, master_address="fd00::1", master_port=2222)),
        (TORCHRUN, Cluster(rank=3, world_size=4, local_rank=1, master_address="10.0.0.7", master_port=29500)),
        ({**TORCHRUN, **spec(THREE)}, Cluster(rank=3, world_size=4, local_rank=1, master_address="10.0.0.7", master_port=29500)),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "first", "MASTER_PORT": "2222"}, first(0, 2)),
        ({"RANK": "9", "WORLD_SIZE": "10", "MASTER_ADDR": "elsewhere", "MASTER_PORT": "1", **spec(THREE)}, first(0)),
        ({**TORCHRUN, "TORCHELASTIC_USE_AGENT_STORE": "False"}, Cluster(rank=3, world_size=4, local_rank=1, master_address="10.0.0.7", master_port=29500)),
        (
            {**TORCHRUN, "TORCHELASTIC_USE_AGENT_STORE": "True"},
            Cluster(rank=3, world_size=4, local_rank=1, master_address="10.0.0.7", master_port=29500, agent_listens=True),
        ),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, Cluster(local_rank=0)),
        ({"PET_NNODES": "1", "PET_NPROC_PER_NODE": "8"}, Cluster()),
        ({**TORCHRUN, "PET_NNODES": "2"}, Cluster(rank=3, world_size=4, local_rank=1, master_address="10.0.0.7", master_port=29500)),
    ],
)
def test_the_environment_says_which_rank_this_is(environment: dict[str, str], expected: Cluster) -> None:
    assert Cluster.from_environment(environment) == expected


@pytest.mark.parametrize(
    ("environment", "problems"),
    [
        ({"CLUSTER_SPEC": "{"}, ["no JSON", "'{'"]),
        ({"CLUSTER_SPEC": "[1]"}, ["'[1]'", "'cluster' and 'task'"]),
        ({"CLUSTER_SPEC": '{"cluster": {}}'}, ["'cluster' and 'task'"]),
        (spec({"workerpool1": ["second:2222"]}, "workerpool1"), ["workerpool0 is []", "one HOST:PORT"]),
        (spec({"workerpool0": ["a:1", "b:1"]}), ["['a:1', 'b:1']", "one HOST:PORT"]),
        (spec({"workerpool0": "first:2222"}), ["'first:2222'", "list of HOST:PORT"]),
        (spec({**THREE, "workerpool1": [5]}), ["workerpool1 is [5]"]),
        (spec({**THREE, "workerpool0": ["first"]}), ["'first'", "HOST:PORT"]),
        (spec({**THREE, "workerpool0": ["first:0"]}), ["'first:0'", "HOST:PORT"]),
        (spec(THREE, "workerpool1", 2), ["index is 2", "workerpool1 is ['second:2222', 'third:2222']"]),
        (spec(THREE, "workerpool1", "0"), ["index is '0'"]),
        (spec(THREE, "workerpool0", -1), ["index is -1"]),
        (spec({**THREE, "workerpool2": ["reduction:2222"]}, "workerpool2"), ["type is 'workerpool2'", "workerpool0 or workerpool1"]),
        (spec(THREE, None), ["type is None"]),
        ({"RANK": "1"}, ["WORLD_SIZE is not set."]),
        ({"RANK": "1", "WORLD_SIZE": "2"}, ["MASTER_PORT is not set.", "MASTER_ADDR is not set."]),
        ({**TORCHRUN, "RANK": "4"}, ["RANK is '4'; expected a whole number from 0 to 3."]),
        ({**TORCHRUN, "WORLD_SIZE": "two", "MASTER_PORT": "99999"}, ["WORLD_SIZE is 'two'"]),
        ({**TORCHRUN, "MASTER_PORT": "99999"}, ["MASTER_PORT is '99999'"]),
        ({**TORCHRUN, "LOCAL_RANK": "-1"}, ["LOCAL_RANK is '-1'"]),
        ({"PET_NNODES": "2"}, ["PET_NNODES is '2'", "RANK and WORLD_SIZE are not set"]),
        ({"PET_NNODES": "1:4"}, ["PET_NNODES is '1:4'"]),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_was_found_and_expected(environment: dict[str, str], problems: list[str]) -> None:
    with pytest.raises(ParameterError) as caught:
        Cluster.from_environment(environment)
    for problem in problems:
        assert problem in str(caught.value)
    assert caught.value.next_action
