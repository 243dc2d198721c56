"""Metrics as TensorBoard event files, readable while training runs, under the names of the hosted service."""

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from tuneline.tuning.history import METRICS, Measurement, Records, Split


def tag(split: Split, metric: str) -> str:
    """The exact series name, e.g. `/train_total_loss`."""
    return f"/{split}_{metric}"


class EventFiles:
    """Writes measurements into one folder, after those of an earlier attempt; without a folder nothing."""

    def __init__(self, folder: Path | None, earlier: Records) -> None:
        self._writer: SummaryWriter | None = None
        if folder is None:
            return
        for leftover in folder.glob("events.out.tfevents.*"):
            leftover.unlink()  # it may go on past the step that this attempt resumes from
        self._writer = SummaryWriter(str(folder))
        for measurement in earlier.train:
            self.add("train", measurement)
        for measurement in earlier.eval:
            self.add("eval", measurement)
        self.flush()

    def add(self, split: Split, measurement: Measurement) -> None:
        """Write the three metrics of one step."""
        if self._writer is None:
            return
        for metric in METRICS:
            self._writer.add_scalar(tag(split, metric), getattr(measurement, metric), measurement.step)

    def flush(self) -> None:
        """Have readers see everything that was added."""
        if self._writer:
            self._writer.flush()

    def close(self) -> None:
        """Flush and end the file."""
        if self._writer:
            self._writer.close()
