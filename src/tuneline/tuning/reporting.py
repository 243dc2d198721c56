"""How far tuning is: log lines and the progress file."""

import logging
import time

from tuneline.progress import Progress, ProgressFile
from tuneline.tuning.history import Measurement, Records
from tuneline.tuning.plan import TuningPlan

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_REPORTS = 0.5
MANY_EPOCHS = 10


class Reporter:
    """Tells people and the engine about steps and evaluations, not more often than they can read."""

    def __init__(self, plan: TuningPlan, num_examples: int, progress: ProgressFile) -> None:
        self.plan, self.num_examples, self.progress = plan, num_examples, progress
        self._last_line = self._last_report = -SECONDS_BETWEEN_LINES
        self._message = ""

    def started(self, step: int, threads: int) -> None:
        """One line with the whole arithmetic."""
        plan = self.plan
        epochs = plan.epochs(plan.steps, self.num_examples)
        log.info(
            "steps=%d x batch_size=%d / examples=%d = epochs=%.2f learning_rate=%g first_step=%d threads=%d",
            plan.steps, plan.batch_size, self.num_examples, epochs, plan.learning_rate, step + 1, threads,
        )  # fmt: skip
        if epochs > MANY_EPOCHS:
            log.warning("epochs=%.1f: each example is used so often that the model may learn them by heart; consider fewer train_steps.", epochs)
        self._report(step, force=True)

    def trained(self, measurement: Measurement, records: Records) -> bool:
        """Report one step; tells whether it came with a log line."""
        speed = records.tokens / max(1e-9, records.train_seconds)
        loss, accuracy = measurement.total_loss, measurement.fraction_of_correct_next_step_preds
        self._message = f"loss={loss:.4f} accuracy={accuracy:.4f} tok/s={speed:.0f}"
        step, last = measurement.step, measurement.step == self.plan.steps
        self._report(step, force=last)
        speaks = last or time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES
        if speaks:
            self._last_line = time.monotonic()
            log.info("step=%d/%d %s epochs=%.2f", step, self.plan.steps, self._message, self.plan.epochs(step, self.num_examples))
        return speaks

    def evaluated(self, measurement: Measurement) -> None:
        """Report one evaluation."""
        loss, accuracy = measurement.total_loss, measurement.fraction_of_correct_next_step_preds
        log.info("step=%d/%d eval_loss=%.4f eval_accuracy=%.4f", measurement.step, self.plan.steps, loss, accuracy)

    def _report(self, step: int, *, force: bool) -> None:
        if force or time.monotonic() - self._last_report >= SECONDS_BETWEEN_REPORTS:
            self._last_report = time.monotonic()
            self.progress.report(Progress("tuning", step, self.plan.steps, self._message))
