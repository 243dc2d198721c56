"""What was measured, as values and as the JSON that steps hand on: history in, evaluation and selection out.

A metric is `None` when it was not measured or came out as no finite number; JSON then leaves it out, because metadata and other
readers of JSON know no NaN. `num_predictions` tells the two apart: whoever was scored has it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Self

from tuneline.storage import Storage, join


@dataclass(frozen=True, kw_only=True)
class AnswerMetrics:
    """How close generated answers come to the references, each between 0 and 1."""

    exact_match: float
    rouge_l: float
    chrf: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is known of one model: the base model (step 0) or a checkpoint."""

    step: int
    loss: float | None = None
    """Mean negative log-likelihood of a completion token, in nats."""
    token_accuracy: float | None = None
    """Share of completion tokens that are the most likely one, given all tokens before."""
    num_predictions: int | None = None
    """Completion tokens that were scored."""
    exact_match: float | None = None
    rouge_l: float | None = None
    chrf: float | None = None
    general_loss: float | None = None
    """The same as `loss`, on the examples of what must not be forgotten."""

    @property
    def is_scored(self) -> bool:
        """Whether it went through evaluation data, with whatever outcome."""
        return self.num_predictions is not None

    def value(self, metric: str) -> float | None:
        """One metric by its name in the parameters."""
        number: float | None = getattr(self, metric)
        return number

    def answered(self, metrics: AnswerMetrics) -> Self:
        """The same model with generation metrics."""
        return replace(self, **asdict(metrics))

    def to_mapping(self) -> dict[str, float]:
        """What was measured and is finite."""
        return {name: value for name, value in asdict(self).items() if value is not None and math.isfinite(value)}

    @classmethod
    def from_mapping(cls, values: Mapping[str, float | None]) -> Self:
        """From JSON; unknown metrics of another version are ignored, `null` and NaN are "not known"."""
        known = {name: finite(values.get(name)) for name in (field.name for field in fields(cls)) if name not in ("step", "num_predictions")}
        count = finite(values.get("num_predictions"))
        return cls(step=int(values.get("step") or 0), num_predictions=None if count is None else int(count), **known)


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One evaluation prompt, answered by the base model and by the tuned one."""

    line: int
    prompt: str
    reference: str
    base: str
    tuned: str


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The content of evaluation.json."""

    base: Measured
    candidates: tuple[Measured, ...]
    """The checkpoints, by step."""
    selected_step: int
    metric: str
    generations: tuple[Generation, ...]
    champion: Measured | None = None
    """The model that is to be beaten, if there is one."""

    @property
    def selected(self) -> Measured:
        """What is known of the selected checkpoint."""
        return next(candidate for candidate in self.candidates if candidate.step == self.selected_step)

    def metrics_of(self, step: int) -> dict[str, float]:
        """What was measured at a step; nothing when that step was not evaluated."""
        return {name: value for candidate in self.candidates if candidate.step == step for name, value in candidate.to_mapping().items() if name != "step"}

    def to_json(self) -> str:
        content = {
            "base": self.base.to_mapping() if self.base.is_scored else {},
            "candidates": [candidate.to_mapping() for candidate in self.candidates],
            "selected_step": self.selected_step,
            "metric": self.metric,
            "generations": [asdict(generation) for generation in self.generations],
            "champion": self.champion.to_mapping() if self.champion else None,
        }
        return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    def write(self, path: Path) -> None:
        """Write the JSON file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_json(), encoding="utf-8")

    def publish(self, folder: str) -> None:
        """Write `evaluation.json` into a folder, a path or a gs:// URI."""
        Storage().write_text(join(folder, "evaluation.json"), self.to_json())

    @classmethod
    def read(cls, path: Path) -> Self:
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            base=Measured.from_mapping(content["base"]),
            candidates=tuple(map(Measured.from_mapping, content["candidates"])),
            selected_step=content["selected_step"],
            metric=content["metric"],
            generations=tuple(Generation(**generation) for generation in content["generations"]),
            champion=Measured.from_mapping(content["champion"]) if content.get("champion") else None,
        )

    def metadata(self) -> dict[str, float | str]:
        """Flat and finite, as artifact metadata must be: `metric`, `selected_step`, `base_loss`, `selected_loss`, ..."""
        flat: dict[str, float | str] = {"metric": self.metric, "selected_step": self.selected_step}
        owners = {"base": self.base, "selected": self.selected, **({"champion": self.champion} if self.champion else {})}
        for owner, measured in owners.items():
            flat |= {f"{owner}_{name}": value for name, value in measured.to_mapping().items() if name != "step"}
        return flat


@dataclass(frozen=True, kw_only=True)
class History:
    """The content of history.json, as tuning wrote it."""

    steps: int
    examples: int
    batch_size: int
    epochs: float
    stopped_early: str
    seconds: float
    tokens_per_second: float
    learning_rate: float
    train: tuple[Measured, ...]
    evaluations: tuple[Measured, ...]
    """On evaluation data; step 0 is the base model."""

    @classmethod
    def read(cls, path: Path) -> Self:
        content = json.loads(path.read_text(encoding="utf-8"))
        plain = {field.name: content[field.name] for field in fields(cls) if field.name not in ("train", "evaluations", "stopped_early")}
        return cls(train=_points(content["train"]), evaluations=_points(content["eval"]), stopped_early=str(content["stopped_early"] or ""), **plain)


def _points(records: Sequence[Mapping[str, float | None]]) -> tuple[Measured, ...]:
    """History entries under the names of TensorBoard's scalars."""
    return tuple(
        Measured(
            step=int(record["step"] or 0),
            loss=finite(record["total_loss"]),
            token_accuracy=finite(record["fraction_of_correct_next_step_preds"]),
            num_predictions=int(record["num_predictions"] or 0),
        )
        for record in records
    )


def finite(value: float | None) -> float | None:
    """The value, unless it is missing or no finite number."""
    return value if value is not None and math.isfinite(value) else None
