"""The training loop: evaluate, save, update, until the last step, an early stop or a signal."""

import contextlib
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from tuneline.data.dataset import TokenDataset
from tuneline.data.tokens import load_tokenizer
from tuneline.errors import Interrupted, ParameterError
from tuneline.modeling.checkpoints import check_room, final_checkpoint, list_checkpoints, remove, remove_state, to_collect, write_checkpoint, write_final
from tuneline.modeling.loading import load_model
from tuneline.modeling.scoring import Score, packed_rows, row_loss, score_sums
from tuneline.progress import ProgressFile
from tuneline.tuning.agreement import check_alike
from tuneline.tuning.batches import Batch, batch_of_step
from tuneline.tuning.devices import Device
from tuneline.tuning.export import export_model, stored_dtype
from tuneline.tuning.group import Alone, Group, LostRank
from tuneline.tuning.history import History, Measurement, Records
from tuneline.tuning.interruption import StopSignals
from tuneline.tuning.plan import MAX_CHECKPOINTS, TuningPlan
from tuneline.tuning.reporting import Reporter
from tuneline.tuning.resuming import restore_start
from tuneline.tuning.schedule import rate_share
from tuneline.tuning.state import TrainerState, configuration, save_state
from tuneline.tuning.stopping import PATIENCE, has_stalled
from tuneline.tuning.tensorboard import EventFiles

BETAS = (0.9, 0.95)
"""The second moment over 20 steps: tuning has few steps, and its gradients change quickly."""
WEIGHT_DECAY = 0.0
"""Over so few steps it regularises nothing, but it would shrink the embeddings of all tokens that the examples never use."""
MAX_GRADIENT_NORM = 1.0
ALONE = Alone()


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where a tuning writes: rank 0 of its group, and no other."""

    checkpoints: Path
    tensorboard: Path


def tune(
    base: Path,
    training: TokenDataset,
    evaluation: TokenDataset | None,
    plan: TuningPlan,
    *,
    outputs: Outputs,
    device: Device,
    progress: ProgressFile,
    resume_from: Path | None = None,
    group: Group = ALONE,
) -> History:
    """Tune the model in the folder `base` and return what was measured; goes on where an earlier attempt stopped.

    Every rank of a `group` makes the same call. Raises Interrupted (SIGTERM), KeyboardInterrupt (Ctrl-C) or LostRank after it has
    saved what is needed to go on.
    """
    trainer = Trainer(base, training, evaluation, plan, outputs=outputs, device=device, progress=progress, resume_from=resume_from, group=group)
    with StopSignals() as stop:
        try:
            trainer.run(stop)
        except (Interrupted, KeyboardInterrupt):
            with contextlib.suppress(LostRank):  # another rank had less patience; the state is saved all the same
                group.on_rank_zero(trainer.save_for_resuming)
            raise
        except LostRank:
            if group.rank == 0:
                trainer.save_for_resuming()
            raise
        finally:
            trainer.events.close()
    return trainer.history()


class Trainer:
    """A model between two steps: `step` updates are done, and `records` says how they went."""

    def __init__(
        self,
        base: Path,
        training: TokenDataset,
        evaluation: TokenDataset | None,
        plan: TuningPlan,
        *,
        outputs: Outputs,
        device: Device,
        progress: ProgressFile,
        resume_from: Path | None,
        group: Group,
    ) -> None:
        self.group = group
        self.base, self.training, self.evaluation = base, training, evaluation
        self.plan, self.outputs, self.device = plan, outputs, device
        self.tokenizer = load_tokenizer(base)
        self.model = load_model(base, packed=True, dtype=torch.float32, device=device.torch_device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True)
        self.configuration = configuration(plan, base, training, evaluation)
        self.evaluated = evaluation is not None
        check_alike(group, self.configuration, self.model)
        start = restore_start(group, outputs.checkpoints, resume_from, self.configuration, self.model, self.optimizer)
        self.step, self.records = (start.step, start.records) if start else (0, Records())
        group.on_rank_zero(lambda: check_room(outputs.checkpoints, self.room_for_checkpoints()))
        writes = group.rank == 0
        self.events = EventFiles(outputs.tensorboard if writes else None, self.records)
        self.reporter = Reporter(plan, len(training), progress if writes else ProgressFile(None))
        self.started = time.monotonic() - self.records.seconds

    def room_for_checkpoints(self) -> int:
        """Bytes of all checkpoints that will be kept, with two training states: the new one is written before the old one goes."""
        planned = sum(self.plan.saves_at(step, evaluated=self.evaluated) for step in range(self.plan.steps + 1))
        state = 3 * torch.float32.itemsize  # weights and two moments
        num_parameters: int = sum(parameter.numel() for parameter in self.model.parameters())
        return num_parameters * (stored_dtype(self.base).itemsize * min(planned, MAX_CHECKPOINTS) + 2 * state)

    def run(self, stop: StopSignals) -> None:
        """All steps that are left, and `final`."""
        self.reporter.started(self.step, torch.get_num_threads())
        while True:
            if self.evaluation is not None and self.plan.evaluates_at(self.step) and not self.records.evaluated_at(self.step):
                self.evaluate(self.evaluation, stop)
            if self.plan.saves_at(self.step, evaluated=self.evaluated):
                self.group.on_rank_zero(self.save)
            if self.step == self.plan.steps or self.stopped_early():
                break
            self.update(stop)
        self.group.on_rank_zero(self.save_final)
        self.records.seconds = time.monotonic() - self.started

    def evaluate(self, evaluation: TokenDataset, stop: StopSignals) -> None:
        """Score the model as it is now on all evaluation data."""
        share = self.group.share([int(length) for length in evaluation.lengths])
        rows = self.group.until_stopped(packed_rows(evaluation, share, self.device.tokens_per_row), stop)
        sums = torch.tensor(score_sums(self.model, rows, self.device.dtype), dtype=torch.float64)
        result = Score.from_sums(*self.group.sum(sums, stop).tolist())
        measurement = Measurement(
            step=self.step, total_loss=result.loss, fraction_of_correct_next_step_preds=result.token_accuracy, num_predictions=result.num_predictions
        )
        self.records.eval.append(measurement)
        self.events.add("eval", measurement)
        self.events.flush()
        self.reporter.evaluated(measurement)

    def update(self, stop: StopSignals) -> None:
        """One training step. Until the optimizer is called nothing has changed, so a signal or a bad loss leaves the state whole."""
        began = time.monotonic()
        batch = batch_of_step(self.training, self.plan, self.step, self.device.tokens_per_row, self.group)
        totals = torch.zeros(2, device=self.device.torch_device)
        self.optimizer.zero_grad()
        for row in self.group.until_stopped(batch.rows, stop):
            loss, correct = row_loss(self.model, row, 1 / batch.num_predictions, self.device.dtype)
            loss.backward()  # type: ignore[no-untyped-call]
            totals += torch.stack((loss.detach(), correct / batch.num_predictions))
        totals = self.group.sum(totals, stop)
        self.group.sum_gradients(self.model.parameters())
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        mean_loss, accuracy, gradient_norm = torch.stack((*totals, norm)).tolist()  # the one time in a step that a GPU is waited for
        if not (math.isfinite(mean_loss) and math.isfinite(gradient_norm)):
            raise self.not_finite(batch, mean_loss, gradient_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.learning_rate * rate_share(self.step, self.plan.steps)
        self.optimizer.step()
        self.step += 1
        self.records.tokens += batch.num_tokens
        self.records.train_seconds += time.monotonic() - began
        measurement = Measurement(step=self.step, total_loss=mean_loss, fraction_of_correct_next_step_preds=accuracy, num_predictions=batch.num_predictions)
        self.records.train.append(measurement)
        self.events.add("train", measurement)
        if self.reporter.trained(measurement, self.records):
            self.events.flush()

    def not_finite(self, batch: Batch, loss: float, gradient_norm: float) -> ParameterError:
        """The error that names the step and the examples whose own loss is not finite, or all of the step when none or each is."""
        with torch.no_grad():
            rows = [row for row in batch.rows if not math.isfinite(float(row_loss(self.model, row, dtype=self.device.dtype)[0]))]
        bad = {example for share in self.group.gather([example for row in rows for example in row.examples]) for example in share}
        lines = sorted({int(self.training.lines[example]) for example in bad or batch.examples})
        return ParameterError(
            f"step {self.step + 1}: the loss is {loss} and the gradient norm {gradient_norm}; expected finite numbers. The update was not applied. "
            f"Lines of the training data: {', '.join(map(str, lines))}.",
            next_action="Lower learning_rate_multiplier, or look at these lines with: tuneline inspect",
        )

    def stopped_early(self) -> str:
        """Why training ends before its last step, or nothing."""
        tuned = [measurement for measurement in self.records.eval if measurement.step > 0]
        accuracies = [measurement.fraction_of_correct_next_step_preds for measurement in tuned]
        if not (self.plan.early_stopping and self.step < self.plan.steps and has_stalled(accuracies)):
            return ""
        best = max(tuned, key=lambda measurement: measurement.fraction_of_correct_next_step_preds)
        return f"token accuracy did not rise in the last {PATIENCE} evaluations; the best was {max(accuracies):.4f} at step {best.step}"

    def save(self) -> None:
        """Make a checkpoint with training state, unless this step has one; then delete what is no longer wanted."""
        artifact = self.outputs.checkpoints
        if any(checkpoint.step == self.step for checkpoint in list_checkpoints(artifact)):
            return
        self.records.seconds = time.monotonic() - self.started
        write_checkpoint(artifact, self.step, self._fill)
        present = list_checkpoints(artifact)
        for older in present[:-1]:
            remove_state(older)
        unwanted = to_collect(
            [checkpoint.step for checkpoint in present],
            protected=self.records.best_steps(),
            regular=lambda step: self.plan.saves_at(step, evaluated=self.evaluated),
            keep=MAX_CHECKPOINTS,
        )
        for checkpoint in present:
            if checkpoint.step in unwanted:
                remove(checkpoint)

    def save_final(self) -> None:
        """Make `final` of the last checkpoint."""
        if final_checkpoint(self.outputs.checkpoints) is None:
            write_final(self.outputs.checkpoints, list_checkpoints(self.outputs.checkpoints)[-1])

    def _fill(self, folder: Path) -> None:
        export_model(self.model, self.base, self.tokenizer, folder)
        save_state(folder, self.model, self.optimizer, TrainerState(self.step, self.records, self.configuration))

    def save_for_resuming(self) -> None:
        """After a signal. Before the first step there is nothing to lose."""
        if self.step > 0:
            self.save()

    def history(self) -> History:
        """What was measured."""
        records, num_examples = self.records, len(self.training)
        checkpoints = self.group.on_rank_zero(lambda: [checkpoint.step for checkpoint in list_checkpoints(self.outputs.checkpoints)])
        return History(
            steps=self.step,
            examples=num_examples,
            batch_size=self.plan.batch_size,
            epochs=self.plan.epochs(self.step, num_examples),
            stopped_early=self.stopped_early(),
            seconds=records.seconds,
            tokens_per_second=records.tokens / max(1e-9, records.train_seconds),
            learning_rate=self.plan.learning_rate,
            train=records.train,
            eval=records.eval,
            checkpoints=checkpoints,
        )
