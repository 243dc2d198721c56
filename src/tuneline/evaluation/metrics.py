"""How close generated answers come to the reference answers: shares between 0 and 1, higher is better.

- `exact_match`: answers equal to the reference, apart from white space at both ends.
- `rouge_l`: mean F-measure of the longest common subsequence of words (rouge-score, no stemming). Its words are runs of ASCII
  letters and digits in lower case: for code it does not see punctuation, and text in other scripts scores 0. Use chrF there.
- `chrf`: character n-gram F-score over all answers together (sacrebleu's chrF2, divided by 100). It counts punctuation and
  knows every script, but not white space.
"""

from collections.abc import Sequence

from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import CHRF

from tuneline.evaluation.results import AnswerMetrics


def answer_metrics(predictions: Sequence[str], references: Sequence[str]) -> AnswerMetrics:
    """All metrics of one model's answers."""
    return AnswerMetrics(
        exact_match=exact_match(predictions, references),
        rouge_l=rouge_l(predictions, references),
        chrf=chrf(predictions, references),
    )


def exact_match(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Share of predictions that are the reference, white space at both ends aside."""
    return _mean([float(is_exact_match(prediction, reference)) for prediction, reference in _pairs(predictions, references)])


def is_exact_match(prediction: str, reference: str) -> bool:
    """Whether one prediction is the reference, white space at both ends aside."""
    return prediction.strip() == reference.strip()


def rouge_l(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Mean ROUGE-L F-measure."""
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    return _mean([scorer.score(reference, prediction)["rougeL"].fmeasure for prediction, reference in _pairs(predictions, references)])


def chrf(predictions: Sequence[str], references: Sequence[str]) -> float:
    """chrF2 of the whole set, so that a long answer counts for more than a short one."""
    pairs = _pairs(predictions, references)
    score: float = CHRF().corpus_score([prediction for prediction, _ in pairs], [[reference for _, reference in pairs]]).score
    return score / 100


def _pairs(predictions: Sequence[str], references: Sequence[str]) -> list[tuple[str, str]]:
    pairs = list(zip(predictions, references, strict=True))
    if not pairs:
        raise ValueError("No predictions: a metric of nothing is not a number.")
    return pairs


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
