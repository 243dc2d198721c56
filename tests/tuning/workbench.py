"""A tiny tuning for tests: a random base model, random examples, and a stop signal at any step."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from tests.modeling.tiny_model import random_dataset, write_base
from tuneline.data.dataset import TokenDataset
from tuneline.modeling.checkpoints import checkpoint_path, final_checkpoint, sha256
from tuneline.progress import Progress, ProgressFile
from tuneline.tuning.devices import CPU
from tuneline.tuning.group import Group
from tuneline.tuning.history import History
from tuneline.tuning.plan import TuningPlan
from tuneline.tuning.trainer import ALONE, Outputs, tune

PLAN = TuningPlan(steps=6, batch_size=3, learning_rate=3e-3, evaluation_interval=2, early_stopping=False, seed=0)


class Watch(ProgressFile):
    """Calls `at_step` with each reported step; the reporter is made to report every one."""

    def __init__(self, at_step: Callable[[int], None]) -> None:
        super().__init__(None)
        self.at_step = at_step

    def report(self, progress: Progress) -> None:
        self.at_step(progress.completed)


def send_at(step: int, number: signal.Signals = signal.SIGTERM) -> Callable[[int], None]:
    """Sends this process a signal once `step` steps are done."""

    def watch(completed: int) -> None:
        if completed == step:
            os.kill(os.getpid(), number)

    return watch


class Workbench:
    """A base model, data and an output folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = self.output_folder = folder
        self.base = folder / "base"
        if not self.base.exists():
            self.base.mkdir(parents=True)
            write_base(self.base)
        self.training = random_dataset([9, 30, 17, 12, 25, 8, 21])
        self.evaluation: TokenDataset | None = random_dataset([14, 11, 23], seed=1)
        self.plan = PLAN

    def outputs(self, name: str = "out") -> Outputs:
        return Outputs(checkpoints=self.output_folder / name / "checkpoints", tensorboard=self.output_folder / name / "tensorboard")

    def tune(
        self,
        name: str = "out",
        *,
        at_step: Callable[[int], None] = lambda _step: None,
        resume_from: str = "",
        tokens_per_row: int = 64,
        group: Group = ALONE,
        **changes: object,
    ) -> History:
        torch.set_num_threads(1)
        return tune(
            self.base,
            self.training,
            self.evaluation,
            replace(self.plan, **changes),  # type: ignore[arg-type]
            outputs=self.outputs(name),
            device=replace(CPU, tokens_per_row=tokens_per_row),
            progress=Watch(at_step),
            resume_from=self.outputs(resume_from).checkpoints if resume_from else None,
            group=group,
        )

    def weights(self, name: str = "out") -> str:
        """SHA-256 of the final weights."""
        final = final_checkpoint(self.outputs(name).checkpoints)
        assert final is not None
        return sha256(final.path / "model.safetensors")

    def master_weights(self, name: str, step: int) -> str:
        """SHA-256 of the fp32 weights and moments at a step."""
        return sha256(checkpoint_path(self.outputs(name).checkpoints, step) / "optimizer.safetensors")
