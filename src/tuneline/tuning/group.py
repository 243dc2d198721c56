"""The processes that tune one model together: what each does by itself, and where they meet.

Every rank holds the whole model and makes every update. A step's examples are shared out, the gradients are added up, and the same
update on the same weights keeps the weights equal. `Alone` is the group of one, in which nothing is exchanged.
"""

from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

import torch

from tuneline.errors import InfrastructureError
from tuneline.modeling.scoring import PackedRow
from tuneline.tuning.cluster import Cluster
from tuneline.tuning.devices import Device, prepare_device
from tuneline.tuning.interruption import StopSignals

T = TypeVar("T")


class LostRank(InfrastructureError):
    """Another rank ended, or cannot be reached any more. The model is as it was after the last whole step."""


class Group(Protocol):
    """What the training loop asks for. All ranks make the same calls in the same order; where they meet, each waits for all."""

    @property
    def rank(self) -> int:
        """This process, from 0. Rank 0 alone writes outputs."""

    @property
    def size(self) -> int:
        """Processes in the group."""

    def share(self, lengths: Sequence[int]) -> list[int]:
        """Which of the examples of these lengths are this rank's."""

    def until_stopped(self, rows: Iterable[PackedRow], stop: StopSignals) -> Iterator[PackedRow]:
        """The rows, until a stop is requested. `sum` must follow: it is where all ranks stop."""

    def sum(self, totals: torch.Tensor, stop: StopSignals) -> torch.Tensor:
        """The totals of all ranks added up; raises on all of them when a stop was requested on one."""

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by the sum over all ranks."""

    def broadcast(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace the content of each tensor by what rank 0 has in it."""

    def gather(self, value: T) -> list[T]:
        """The JSON value of every rank, in their order."""

    def on_rank_zero(self, action: Callable[[], T]) -> T:
        """Act on rank 0 only; the others wait for its JSON value. An error of ours is raised on all ranks."""

    def first_on_each_machine(self, action: Callable[[], T]) -> T:
        """Act on the first process of each machine, then on its others, which find done what only one may do."""


class Alone:
    """A process by itself."""

    rank = 0
    size = 1

    def share(self, lengths: Sequence[int]) -> list[int]:
        return list(range(len(lengths)))

    def until_stopped(self, rows: Iterable[PackedRow], stop: StopSignals) -> Iterator[PackedRow]:
        for row in rows:
            stop.raise_if_requested()
            yield row

    def sum(self, totals: torch.Tensor, stop: StopSignals) -> torch.Tensor:  # noqa: ARG002
        return totals

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        pass

    def broadcast(self, tensors: Iterable[torch.Tensor]) -> None:
        pass

    def gather(self, value: T) -> list[T]:
        return [value]

    def on_rank_zero(self, action: Callable[[], T]) -> T:
        return action()

    def first_on_each_machine(self, action: Callable[[], T]) -> T:
        return action()


@contextmanager
def join(environment: MutableMapping[str, str], accelerator_type: str) -> Iterator[tuple[Group, Device]]:
    """The group that the environment speaks of, once all its ranks are there, and what this one computes on.

    Leaves the group at the end, which ranks that still wait for this one notice as a `LostRank`.
    """
    cluster = Cluster.from_environment(environment)
    device = prepare_device(accelerator_type, cluster.local_rank)
    if cluster.world_size == 1:
        yield Alone(), device
        return
    if cluster.rank > 0:
        environment.pop("TUNELINE_ERROR_FILE", None)  # all machines are given the same files; they are rank 0's to write
    from tuneline.tuning import distributed  # a process by itself does without

    with distributed.open_process_group(cluster, device.torch_device) as group:
        yield group, device
