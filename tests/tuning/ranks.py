"""Ranks as real processes on this machine, forked off a server that has loaded torch already, so that one starts in milliseconds."""

import functools
import hashlib
import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.context import ForkServerContext
from pathlib import Path

import torch

from tests.tuning.workbench import Workbench
from tuneline.modeling.scoring import PackedRow
from tuneline.steps import run_step, tune_model
from tuneline.tuning import distributed, rendezvous, reporting, trainer
from tuneline.tuning.group import join
from tuneline.tuning.interruption import StopSignals

SECONDS = 60.0
"""No test may hang, whatever goes wrong."""


@functools.cache
def server() -> ForkServerContext:
    """The server's context; it inherits the environment of the moment of its start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", __name__])
    os.environ["OMP_NUM_THREADS"] = "1"
    return context


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def variables(rank: int, world_size: int, port: int) -> dict[str, str]:
    """What torchrun would set, for one process a machine."""
    return {"RANK": str(rank), "WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def cluster_spec(rank: int, world_size: int, port: int) -> dict[str, str]:
    """What Vertex AI would set."""
    pools = {"workerpool0": [f"127.0.0.1:{port}"], "workerpool1": [f"127.0.0.1:{port + other}" for other in range(1, world_size)]}
    task = {"type": "workerpool1", "index": rank - 1} if rank else {"type": "workerpool0", "index": 0}
    return {"CLUSTER_SPEC": json.dumps({"cluster": pools, "environment": "cloud", "task": task})}


@dataclass(frozen=True)
class End:
    """How a rank ended."""

    code: int | None
    log: str


def run_processes(folder: Path, processes: Sequence[tuple[Mapping[str, str], Callable[[], None]]]) -> list[End]:
    """Run each function in a process of its own, with its environment; give back how they ended."""
    logs = [folder / f"rank-{rank}.log" for rank in range(len(processes))]
    children = [server().Process(target=_enter, args=(log, dict(environment), call)) for log, (environment, call) in zip(logs, processes, strict=True)]
    for child in children:
        child.start()
    try:
        for child in children:
            child.join(SECONDS)
    finally:
        hung = [child for child in children if child.exitcode is None]
        for child in hung:
            child.kill()
    assert not hung, [log.read_text() for log in logs]
    return [End(child.exitcode, log.read_text()) for child, log in zip(children, logs, strict=True)]


def _enter(log: Path, environment: Mapping[str, str], function: Callable[[], None]) -> None:
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), sys.stderr.fileno())
    os.environ.update(environment)
    sys.argv = ["test"]
    function()


@dataclass(frozen=True)
class Job:
    """What one rank does: a tuning on the workbench in `folder`, and what happens to it meanwhile."""

    folder: Path
    name: str = "out"
    resume_from: str = ""
    changes: Mapping[str, object] = field(default_factory=dict)
    signals: Mapping[int, signal.Signals] = field(default_factory=dict)
    """Sent to itself before the update after so many steps."""
    silent_at: int = -1
    """Where it sleeps until the others have lost their patience."""
    spoiled_example: int = -1
    """An example whose loss is not a number."""
    sees_outputs: bool = True
    """Whether the output folders can be found on its machine."""
    join_seconds: float = SECONDS
    exchange_seconds: float = SECONDS

    def __call__(self) -> None:
        run_step("tune-model", self._run)

    def _run(self, _argv: Sequence[str]) -> None:
        rendezvous.JOIN_SECONDS, distributed.EXCHANGE_SECONDS, reporting.SECONDS_BETWEEN_REPORTS = self.join_seconds, self.exchange_seconds, 0.0
        bench = Workbench(self.folder)
        if not self.sees_outputs:
            bench.output_folder = self.folder / "not-there"
        with join(os.environ, "") as (ranks, _device):
            trainer.Trainer.update, trainer.row_loss = self._update(trainer.Trainer.update), self._row_loss(trainer.row_loss)  # type: ignore[method-assign]
            history = bench.tune(self.name, resume_from=self.resume_from, group=ranks, **self.changes)
        (self.folder / f"{self.name}-history-{ranks.rank}.json").write_text(json.dumps(asdict(history)))

    def _update(self, update: Callable[[trainer.Trainer, StopSignals], None]) -> Callable[[trainer.Trainer, StopSignals], None]:
        def watched(tuner: trainer.Trainer, stop: StopSignals) -> None:
            if tuner.step in self.signals:
                os.kill(os.getpid(), self.signals[tuner.step])
            if tuner.step == self.silent_at:
                time.sleep(2 * self.exchange_seconds)
            update(tuner, stop)
            weights = b"".join(parameter.detach().numpy().tobytes() for parameter in tuner.model.parameters())
            (self.folder / f"{self.name}-weights-{tuner.group.rank}").write_text(hashlib.sha256(weights).hexdigest())

        return watched

    def _row_loss(self, row_loss: Callable[..., tuple[torch.Tensor, torch.Tensor]]) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
        def spoiled(model: object, row: PackedRow, *arguments: object, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
            loss, correct = row_loss(model, row, *arguments, **options)
            return (loss * float("nan") if self.spoiled_example in row.examples else loss), correct

        return spoiled


@dataclass(frozen=True)
class StepCall:
    """`python -m tuneline.steps.tune_model` with these arguments."""

    argv: Sequence[str]

    def __call__(self) -> None:
        sys.argv = ["tune_model", *self.argv]
        run_step("tune-model", tune_model.main)


@dataclass(frozen=True)
class Download:
    """What one process of a machine does, in a moment that is long enough for the others to do it too if nobody held them back."""

    path: Path

    def __call__(self) -> None:
        run_step("download", self._run)

    def _run(self, _argv: Sequence[str]) -> None:
        with join(os.environ, "") as (ranks, _device):
            ranks.first_on_each_machine(self._fetch)

    def _fetch(self) -> None:
        if os.environ["LOCAL_RANK"] == "0":
            time.sleep(0.3)
            self.path.touch()
        assert self.path.exists()


def run_jobs(*jobs: Job) -> list[End]:
    """The ranks of one group, each with its job."""
    port = free_port()
    return run_processes(jobs[0].folder, [(variables(rank, len(jobs), port), job) for rank, job in enumerate(jobs)])
