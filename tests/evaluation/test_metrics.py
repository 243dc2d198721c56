"""Generation metrics against values worked out by hand."""

import math
from collections.abc import Callable, Sequence

import pytest

from tuneline.evaluation.metrics import answer_metrics, chrf, exact_match, rouge_l


def test_exact_match_ignores_white_space_at_both_ends_only() -> None:
    assert exact_match(["  return x\n", "return  x", "Return x"], ["return x"] * 3) == pytest.approx(1 / 3)


def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence() -> None:
    # "the cat sat" and "the dog sat down" share "the sat": precision 2/3, recall 2/4.
    assert rouge_l(["the cat sat"], ["the dog sat down"]) == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))


def test_rouge_l_is_the_mean_over_answers() -> None:
    assert rouge_l(["a b", "x"], ["a b", "y"]) == pytest.approx(0.5)


def test_rouge_l_sees_neither_punctuation_nor_other_scripts() -> None:
    assert rouge_l(["f(x) == y"], ["f[x] != y"]) == 1.0
    assert rouge_l(["한국어"], ["한국어"]) == 0.0


def test_chrf_of_equal_and_of_unrelated_texts() -> None:
    assert chrf(["return x + 1", "한국어"], ["return x + 1", "한국어"]) == pytest.approx(1.0)
    assert chrf(["aaaa"], ["bbbb"]) == 0.0


def test_chrf_is_the_f2_measure_of_character_n_grams() -> None:
    # "ab" against "abc": unigrams 2 of 2 and 2 of 3, bigrams 1 of 1 and 1 of 2; no longer n-gram in the prediction. The mean precision
    # is 1, the mean recall (2/3 + 1/2) / 2 = 7/12, and beta is 2.
    recall = 7 / 12
    assert chrf(["ab"], ["abc"]) == pytest.approx(5 * recall / (4 + recall), abs=1e-4)


def test_chrf_sees_punctuation_but_no_white_space() -> None:
    assert chrf(["f(x) == y"], ["f(x) != y"]) < 1.0
    assert chrf(["f(x)==y"], ["f(x) == y"]) == pytest.approx(1.0)


def test_all_metrics_of_empty_answers_are_zero_and_finite() -> None:
    metrics = answer_metrics(["", ""], ["a", "b c"])
    assert (metrics.exact_match, metrics.rouge_l, metrics.chrf) == (0.0, 0.0, 0.0)
    assert all(map(math.isfinite, (metrics.exact_match, metrics.rouge_l, metrics.chrf)))


@pytest.mark.parametrize("metric", [exact_match, rouge_l, chrf])
def test_no_predictions_or_unequal_numbers_are_refused(metric: Callable[[Sequence[str], Sequence[str]], float]) -> None:
    with pytest.raises(ValueError, match="No predictions"):
        metric([], [])
    with pytest.raises(ValueError, match="longer"):
        metric(["a"], ["a", "b"])
