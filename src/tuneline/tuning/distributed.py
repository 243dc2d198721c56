"""A group of several processes, over torch.distributed: NCCL between GPUs, gloo for everything else."""

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

from tuneline import errors
from tuneline.errors import InfrastructureError, TunelineError
from tuneline.modeling.scoring import PackedRow
from tuneline.tuning.batches import shares
from tuneline.tuning.cluster import Cluster
from tuneline.tuning.group import LostRank
from tuneline.tuning.interruption import StopSignals, interruption
from tuneline.tuning.rendezvous import cause, meet

log = logging.getLogger(__name__)
T = TypeVar("T")

EXCHANGE_SECONDS = 3_600.0
"""How long a rank waits for another one that is silent but connected. The others wait while rank 0 writes a checkpoint: the training
state of 8 billion parameters is 100 GB, minutes on a bucket. A rank that ends closes its connections, which is noticed at once."""
LARGE = 2**18
"""Numbers in a gradient that is exchanged by itself and in place: from 1 MiB on copying it costs more than the round trip that it saves."""
BUCKET = 2**23
"""Numbers in an exchange of the smaller ones: 32 MiB, which is all of them in most models."""
LOOK_AT_THE_OTHERS = "The log of the rank that ended first says why. Run again: training goes on from the newest checkpoint."


@contextmanager
def open_process_group(cluster: Cluster, device: torch.device) -> Iterator["Distributed"]:
    """Meet the other ranks, and part from them at the end."""
    on_gpu = device.type == "cuda"
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    if on_gpu:
        torch.cuda.set_device(device)
        # Else a rank that waits in vain for another is aborted by a thread of torch, with no error that could be told or retried.
        os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")
    store = meet(cluster)
    try:
        timeout = timedelta(seconds=EXCHANGE_SECONDS)
        distributed.init_process_group(backend, store=store, rank=cluster.rank, world_size=cluster.world_size, timeout=timeout)
    except RuntimeError as error:
        raise InfrastructureError(
            f"rank {cluster.rank} of {cluster.world_size} met the others, but could not connect to them: {cause(error)}.",
            next_action="If a machine has several network interfaces, name the right one: GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME.",
        ) from error
    log.info("rank=%d world_size=%d met backend=%s", cluster.rank, cluster.world_size, backend)
    try:
        yield Distributed(cluster)
    finally:
        distributed.destroy_process_group()


class Distributed:
    """The group that this process has joined; see `tuneline.tuning.group.Group`."""

    def __init__(self, cluster: Cluster) -> None:
        self.rank, self.size = cluster.rank, cluster.world_size
        self._first_of_machine = not cluster.local_rank

    def share(self, lengths: Sequence[int]) -> list[int]:
        return shares(lengths, self.size)[self.rank]

    def until_stopped(self, rows: Iterable[PackedRow], stop: StopSignals) -> Iterator[PackedRow]:
        for row in rows:
            if stop.requested is not None:
                return
            yield row

    def sum(self, totals: torch.Tensor, stop: StopSignals) -> torch.Tensor:
        """The requests travel with the totals, one place a rank, so that stopping costs no exchange of its own."""
        signals = torch.zeros(self.size, dtype=torch.float64)
        signals[self.rank] = stop.requested or 0
        # On the host even between GPUs: no rank enters an exchange of gradients unless all are alive and go on.
        both = torch.cat((totals.to("cpu", torch.float64), signals))
        self._add_up(both, "adding up losses")
        requested = {rank: int(number) for rank, number in enumerate(both[len(totals) :].tolist()) if number}
        if requested:
            raise interruption(max(requested.values()), f" on rank {', '.join(map(str, requested))}")
        return both[: len(totals)].to(totals)

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        gradients = []
        for parameter in parameters:
            if parameter.grad is None:  # this rank had no example
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        for bucket in buckets(gradients):
            self._add_up_bucket(bucket)

    def _add_up_bucket(self, gradients: Sequence[torch.Tensor]) -> None:
        about = "adding up gradients"
        if len(gradients) == 1 and gradients[0].is_contiguous():
            self._add_up(gradients[0], about)
            return
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        self._add_up(flat, about)
        for gradient, total in zip(gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))

    def broadcast(self, tensors: Iterable[torch.Tensor]) -> None:
        for tensor in tensors:
            with self._exchanging("receiving the training state"):
                distributed.broadcast(tensor, src=0)

    def gather(self, value: T) -> list[T]:
        # JSON and not `all_gather_object`, whose pickles would run whatever another rank sends.
        own = torch.frombuffer(bytearray(json.dumps(value), "utf-8"), dtype=torch.uint8)
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(own)
        self._add_up(lengths, "gathering")
        texts = torch.zeros(self.size, int(lengths.max()), dtype=torch.uint8)
        texts[self.rank, : len(own)] = own
        self._add_up(texts, "gathering")
        return [json.loads(bytes(text[:length].tolist())) for text, length in zip(texts, lengths.tolist(), strict=True)]

    def on_rank_zero(self, action: Callable[[], T]) -> T:
        outcome: dict[str, Any] = {}
        if self.rank == 0:
            try:
                outcome = {"value": action()}
            except TunelineError as error:
                self.gather({"error": type(error).__name__, "problems": error.problems, "next_action": error.next_action})
                raise
        outcome = self.gather(outcome)[0]
        if "error" in outcome:
            raise getattr(errors, outcome["error"], TunelineError)(*outcome["problems"], next_action=outcome["next_action"])
        value: T = outcome["value"]
        return value

    def first_on_each_machine(self, action: Callable[[], T]) -> T:
        if self._first_of_machine:
            value = action()
            self.gather(None)
            return value
        self.gather(None)
        return action()

    def _add_up(self, tensor: torch.Tensor, about: str) -> None:
        with self._exchanging(about):
            distributed.all_reduce(tensor)

    @contextmanager
    def _exchanging(self, about: str) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # of NCCL it is a subclass, of gloo the class itself
            raise LostRank(f"rank {self.rank} of {self.size} lost the others while {about}: {cause(error)}.", next_action=LOOK_AT_THE_OTHERS) from error


def buckets(tensors: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """What is exchanged at a time: each large tensor, and the others in order, up to `BUCKET` numbers together."""
    bucket: list[torch.Tensor] = []
    numbers = 0
    for tensor in tensors:
        if tensor.numel() >= LARGE:
            yield [tensor]
            continue
        if numbers + tensor.numel() > BUCKET:
            yield bucket
            bucket, numbers = [], 0
        bucket.append(tensor)
        numbers += tensor.numel()
    if bucket:
        yield bucket
