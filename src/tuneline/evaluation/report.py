"""The report of one tuning run: a self-contained HTML page, rendered from values; the step reads and writes the files.

Everything that comes from outside (names, prompts, answers, reasons) passes through Jinja's autoescape; only the charts of
`tuneline.evaluation.charts`, which escape their own texts, are inserted as markup.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from tuneline.evaluation import charts
from tuneline.evaluation.promotion import Promotion
from tuneline.evaluation.results import Evaluation, Generation, History, Measured
from tuneline.evaluation.selection import Selection, SelectionMetric, written
from tuneline.evaluation.statistics import DataStatistics, SplitStatistics
from tuneline.resolution import Resolved

SHOWN_ANSWERS = 5
FIRST_AND_LAST = 10
"""Training steps whose mean stands for the beginning and the end of a noisy curve."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How a metric is written and read."""

    name: SelectionMetric
    label: str
    meaning: str
    show: Callable[[float], str]
    show_difference: Callable[[float], str]
    sign: int = 1
    """1: higher is better; -1: lower is better."""


def percent(value: float) -> str:
    """0.789 -> 78.9%."""
    return f"{value:.1%}"


def number(value: float) -> str:
    """Three decimals."""
    return f"{value:.3f}"


def signed(text: str) -> str:
    """With a real minus sign, and none on zero."""
    return "±0" if not text.strip("+-0.% points") else text.replace("-", "\u2212")


def points(difference: float) -> str:
    """The difference of two shares, in percentage points."""
    return signed(f"{difference * 100:+.1f} points")


METRICS = (
    Metric(
        name="token_accuracy",
        label="Token accuracy",
        meaning="Share of completion tokens that are the most likely one, given the true text before",
        show=percent,
        show_difference=points,
    ),
    Metric(
        name="loss",
        label="Loss",
        meaning="Mean negative log-likelihood of a completion token; lower is better",
        show=number,
        show_difference=lambda d: signed(f"{d:+.3f}"),
        sign=-1,
    ),
    Metric(name="exact_match", label="Exact match", meaning="Generated answers that equal the reference", show=percent, show_difference=points),
    Metric(name="rouge_l", label="ROUGE-L", meaning="Word overlap in order; blind to punctuation", show=percent, show_difference=points),
    Metric(name="chrf", label="chrF", meaning="Overlap of character sequences, punctuation included", show=percent, show_difference=points),
)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One metric of both models, as text. `verdict` is `better`, `worse` or nothing."""

    label: str
    before: str
    after: str
    difference: str
    verdict: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart and its heading."""

    title: str
    svg: Markup


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of a table."""

    label: str
    values: Sequence[str]
    chosen: bool = False


@dataclass(frozen=True, kw_only=True)
class Facts:
    """How the model came about."""

    resolved: Resolved
    statistics: DataStatistics
    history: History


def render(name: str, facts: Facts, evaluation: Evaluation, selection: Selection, promotion: Promotion | None = None) -> str:
    """The whole page. `name` is the tuned model's."""
    resolved, statistics, history = facts.resolved, facts.statistics, facts.history
    model = resolved.base_model
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files(__package__).joinpath("report.html").read_text(encoding="utf-8"))
    shown = evaluation.generations[:SHOWN_ANSWERS]
    columns = _columns(evaluation.candidates)
    page = template.render(
        name=name,
        base_model=model.stands_in or model.reference,
        stand_in_for=model.reference if model.stands_in else "",
        selection=selection,
        summary=summarise(evaluation, history),
        tiles=comparisons(evaluation.base, evaluation.selected),
        basis=_basis(evaluation, statistics),
        promotion=promotion,
        champion_tiles=comparisons(evaluation.champion, evaluation.selected) if evaluation.champion else [],
        curves=_curves(history, selection.step),
        candidate_columns=[metric.label for metric in columns],
        candidates=[
            Row(
                label=f"{candidate.step:,}",
                values=["" if (value := candidate.value(metric.name)) is None else written(metric.name, value) for metric in columns],
                chosen=candidate.step == selection.step,
            )
            for candidate in evaluation.candidates
        ],
        answers=[_answer(generation) for generation in shown],
        answers_note=f"The first {len(shown)} of {len(evaluation.generations)} answered prompts. Both models answer greedily, with the same limit of tokens.",
        data=_data(statistics),
        settings=_settings(resolved, history),
        reasons=resolved.reasons,
    )
    # A display name from a shell in another encoding may hold bytes that are no UTF-8.
    return page.encode("utf-8", "replace").decode("utf-8")


def comparisons(base: Measured, tuned: Measured) -> list[Comparison]:
    """The metrics that both models have."""
    rows = []
    for metric in METRICS:
        before, after = base.value(metric.name), tuned.value(metric.name)
        if before is None or after is None:
            continue
        difference = metric.show_difference(after - before)
        gain = 0.0 if difference.startswith("±") else (after - before) * metric.sign
        verdict = "better" if gain > 0 else "worse" if gain < 0 else ""
        rows.append(
            Comparison(label=metric.label, before=metric.show(before), after=metric.show(after), difference=difference, verdict=verdict, meaning=metric.meaning)
        )
    return rows


def _columns(candidates: Sequence[Measured]) -> list[Metric]:
    """Metrics that tell candidates apart; one that only the selected checkpoint has is shown beside the base model's already."""
    enough = min(2, len(candidates))
    return [metric for metric in METRICS if sum(candidate.value(metric.name) is not None for candidate in candidates) >= enough]


def summarise(evaluation: Evaluation, history: History) -> str:
    """What tuning changed, in two sentences."""
    tuned = evaluation.selected
    rows = {row.label: row for row in comparisons(evaluation.base, tuned)}
    if not rows:
        found = "There is no evaluation data" if not tuned.is_scored else "The evaluation gave no finite numbers"
        return f"{found}, so nothing can be said about examples that the model has not seen. {_training(history)}".rstrip()
    changes = [f"{row.label.lower()} {_went(row)}" for row in (rows.get("Token accuracy"), rows.get("Loss")) if row]
    opening = {"better": "Tuning helped", "worse": "Tuning did not help", "": "Tuning changed little"}[next(iter(rows.values())).verdict]
    text = f"{opening}: on examples that it was not tuned on, {' and '.join(changes)}." if changes else f"{opening}."
    if "Exact match" in rows:
        count = len(evaluation.generations)
        before, after = (round((measured.exact_match or 0) * count) for measured in (evaluation.base, tuned))
        text += f" Of {count} generated answers {after or 'none'} {'equal' if after > 1 else 'equals'} the reference; the base model had {before or 'none'}."
    return text


def _went(row: Comparison) -> str:
    if not row.verdict:
        return f"stayed at {row.after}"
    return f"{'fell' if row.difference.startswith(chr(0x2212)) else 'rose'} from {row.before} to {row.after}"


def _training(history: History) -> str:
    losses = [point.loss for point in history.train if point.loss is not None]
    if not losses:
        return ""
    first, last = losses[:FIRST_AND_LAST], losses[-FIRST_AND_LAST:]
    return f"Training loss went from {sum(first) / len(first):.3f} to {sum(last) / len(last):.3f} (means of the first and last {len(first)} steps)."


def _basis(evaluation: Evaluation, statistics: DataStatistics) -> str:
    examples = statistics.evaluation.examples if statistics.evaluation else 0
    text = f"Token accuracy and loss over {evaluation.selected.num_predictions or 0:,} completion tokens of {examples:,} evaluation examples."
    if evaluation.generations:
        text += f" The other metrics over generated answers to the first {len(evaluation.generations):,} of them."
    return text


def _curves(history: History, selected_step: int) -> list[Chart]:
    mark = charts.Mark(x=selected_step, label=f"selected: step {selected_step:,}")
    shown = []
    for metric, title in ((METRICS[1], "Loss"), (METRICS[0], "Token accuracy")):
        series = [
            charts.Series(name=name, kind=kind, points=[(point.step, value) for point in measured if (value := point.value(metric.name)) is not None])
            for name, kind, measured in (("training", "train", history.train), ("evaluation", "evaluation", history.evaluations))
        ]
        show = (lambda value: f"{value:.0%}") if metric.name == "token_accuracy" else (lambda value: f"{value:g}")
        if svg := charts.line_chart(title, series, x_label="training step", show=show, mark=mark):
            shown.append(Chart(title=title, svg=Markup(svg)))  # noqa: S704  # charts escape their own texts
    return shown


def _answer(generation: Generation) -> Mapping[str, object]:
    reference = generation.reference.strip()
    return {
        "line": generation.line,
        "prompt": generation.prompt,
        "reference": generation.reference,
        "base": generation.base,
        "tuned": generation.tuned,
        "base_matches": generation.base.strip() == reference,
        "tuned_matches": generation.tuned.strip() == reference,
    }


def _data(statistics: DataStatistics) -> Mapping[str, object]:
    splits = [("Training", statistics.training), *([("Evaluation", statistics.evaluation)] if statistics.evaluation else [])]
    figures: list[tuple[str, Callable[[SplitStatistics], int]]] = [
        ("Examples", lambda split: split.examples),
        ("Tokens", lambda split: split.tokens),
        ("Completion tokens (the ones that carry loss)", lambda split: split.trained_tokens),
        ("Median length", lambda split: split.median),
        ("Longest example", lambda split: split.longest),
        ("Dropped examples", lambda split: len(split.dropped_lines)),
        ("Truncated examples", lambda split: len(split.truncated_lines)),
    ]
    notes = [
        f"{name} data, {what}: {'line' if len(lines) == 1 else 'lines'} {_listed(lines)}."
        for name, split in splits
        for what, lines in (("dropped", split.dropped_lines), ("truncated", split.truncated_lines))
        if lines
    ]
    histograms = []
    for name, split in splits:
        title = f"{name} examples by length"
        if svg := charts.bar_chart(title, [(f"{upper:,}", count) for upper, count in split.length_histogram], x_label="tokens, up to"):
            histograms.append(Chart(title=title, svg=Markup(svg)))  # noqa: S704  # charts escape their own texts
    return {
        "columns": [name for name, _ in splits],
        "rows": [Row(label=label, values=[f"{figure(split):,}" for _, split in splits]) for label, figure in figures],
        "notes": notes,
        "charts": histograms,
    }


def _listed(lines: Sequence[int], most: int = 20) -> str:
    rest = f" and {len(lines) - most:,} more" if len(lines) > most else ""
    return ", ".join(map(str, lines[:most])) + rest


def _settings(resolved: Resolved, history: History) -> list[tuple[str, str]]:
    model = resolved.base_model
    machine = " ".join(
        filter(None, [resolved.machine_type, f"{resolved.accelerator_count} x {resolved.accelerator_type}" if resolved.accelerator_type else ""])
    )
    regions = {"pipeline": resolved.pipeline_region, "tuning": resolved.tuning_region, "upload": resolved.upload_region}
    return [
        ("Base model", f"{model.stands_in or model.reference}, from {model.uri}"),
        *([("Asked for", f"{model.reference}, for which it stands in")] if model.stands_in else []),
        ("Longest example allowed", f"{model.max_sequence_length:,} tokens"),
        ("Steps", f"{history.steps:,} of {history.batch_size:,} examples" + (f"; stopped early: {history.stopped_early}" if history.stopped_early else "")),
        ("Epochs", f"{history.epochs:,.2f} over {history.examples:,} examples"),
        ("Peak learning rate", f"{history.learning_rate:g}"),
        ("Time", f"{_duration(history.seconds)}, {history.tokens_per_second:,.0f} tokens a second"),
        ("Machine", machine or "this one"),
        ("Regions", ", ".join(f"{use} {region}" for use, region in regions.items()) if len(set(regions.values())) > 1 else resolved.pipeline_region),
        ("Back end", resolved.backend),
    ]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
