"""Charts: right places, readable axes, well-formed and inert markup."""

import math
from xml.etree import ElementTree as Xml

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneline.evaluation.charts import BOTTOM, LEFT, MOST_POINTS, RIGHT, TOP, Mark, Series, bar_chart, line_chart, running_mean, thin, ticks

EVALUATION = Series(name="evaluation", kind="evaluation", points=[(0, 3.0), (10, 1.0), (20, 2.0)])


def chart(*series: Series, mark: Mark | None = None) -> Xml.Element:
    return Xml.fromstring(line_chart("Loss", series, x_label="training step", show=lambda y: f"{y:g}", mark=mark))  # noqa: S314  # our own markup


def texts(svg: Xml.Element, css: str) -> list[str]:
    return [element.text or "" for element in svg.iter("text") if element.get("class") == css]


def test_points_lie_where_the_axes_say() -> None:
    svg = chart(EVALUATION)
    assert texts(svg, "tick") == ["1", "1.5", "2", "2.5", "3", "0", "5", "10", "15", "20"]
    dots = [(float(dot.get("cx", "nan")), float(dot.get("cy", "nan"))) for dot in svg.iter("circle") if float(dot.get("cy", "nan")) > TOP - 1]
    assert dots == [(LEFT, TOP), ((LEFT + RIGHT) / 2, BOTTOM), (RIGHT, (TOP + BOTTOM) / 2)]


def test_legend_axis_and_marked_step_are_named() -> None:
    svg = chart(Series(name="training", kind="train", points=[(1, 2.0), (20, 1.0)]), EVALUATION, mark=Mark(x=10, label="selected: step 10"))
    assert texts(svg, "legend") == ["training", "evaluation"]
    assert texts(svg, "label") == ["training step"]
    assert texts(svg, "mark-label") == ["selected: step 10"]
    assert len([dot for dot in svg.iter("circle") if "chosen" in dot.get("class", "")]) == 1


def test_points_that_are_no_numbers_are_left_out() -> None:
    svg = chart(Series(name="evaluation", kind="evaluation", points=[(0, math.nan), (10, 1.0), (20, math.inf), (30, 2.0)]))
    assert [line.get("points", "").count(",") for line in svg.iter("polyline")] == [2]


def test_nothing_to_draw_gives_no_chart() -> None:
    empty = Series(name="evaluation", kind="evaluation", points=[(0, math.nan)])
    assert line_chart("Loss", [empty], x_label="", show=str) == ""
    assert bar_chart("Lengths", [("64", 0)], x_label="") == ""
    assert bar_chart("Lengths", [], x_label="") == ""


def test_a_single_point_can_be_drawn() -> None:
    assert len(list(chart(Series(name="e", kind="evaluation", points=[(0, 0.0)])).iter("polyline"))) == 1


def test_a_long_noisy_curve_is_thinned_and_gets_its_running_mean() -> None:
    svg = chart(Series(name="training", kind="train", points=[(step, step % 2) for step in range(10_000)]))
    raw, smooth = list(svg.iter("polyline"))
    assert "raw" in raw.get("class", "")
    assert "raw" not in smooth.get("class", "")
    assert raw.get("points", "").count(",") <= MOST_POINTS


def test_thinning_averages_neighbours() -> None:
    assert thin([(1, 1.0), (2, 3.0), (3, 5.0), (4, 7.0), (5, 0.0)], most=3) == [(1.5, 2.0), (3.5, 6.0), (5.0, 0.0)]
    assert thin([], most=3) == []


def test_running_mean_of_a_straight_line_is_that_line_except_at_its_end() -> None:
    line = [(float(x), 2.0 * x) for x in range(20)]
    smooth = running_mean(line, 3)
    assert [x for x, _ in smooth] == [x for x, _ in line]
    assert [y for _, y in smooth][:17] == pytest.approx([y for _, y in line][:17])
    assert smooth[-1][1] == pytest.approx((32 + 34 + 36 + 38) / 4)


def test_bars_have_heights_in_proportion_and_every_label_that_fits() -> None:
    svg = Xml.fromstring(bar_chart("Lengths", [("64", 10), ("128", 5), ("192", 0)], x_label="tokens"))  # noqa: S314  # our own markup
    heights = [float(bar.get("height", "nan")) for bar in svg.iter("rect")]
    assert heights == [pytest.approx(BOTTOM - TOP), pytest.approx((BOTTOM - TOP) / 2), 0]
    assert {"64", "128", "192"} <= set(texts(svg, "tick"))
    many = Xml.fromstring(bar_chart("Lengths", [(str(10_000 + n), 1) for n in range(40)], x_label="tokens"))  # noqa: S314  # our own markup
    assert 8 <= len([text for text in texts(many, "tick") if len(text) == 5]) <= 13


def test_texts_are_escaped() -> None:
    hostile = "</text><script>alert(1)</script>\"'&"
    series = Series(name=hostile, kind=hostile, points=[(0, 1.0)])
    drawn = line_chart(hostile, [series], x_label=hostile, show=lambda _: hostile, mark=Mark(x=0, label=hostile)) + bar_chart(
        hostile, [(hostile, 1)], x_label=hostile
    )
    assert "<script" not in drawn
    assert {element.tag for element in Xml.fromstring(f"<all>{drawn}</all>").iter()} <= {  # noqa: S314  # our own markup
        "all", "svg", "line", "polyline", "circle", "rect", "text", "title",
    }  # fmt: skip


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_ticks_enclose_the_range_and_are_few(low: float, span: float) -> None:
    found = ticks(low, low + span)
    tolerance = 1e-6 * max(1.0, abs(low), span)
    assert found[0] <= low + tolerance
    assert found[-1] >= low + span - tolerance
    assert 2 <= len(found) <= 9
    assert found == sorted(set(found))


def test_ticks_are_round_numbers() -> None:
    assert ticks(0, 97) == [0, 20, 40, 60, 80, 100]
    assert ticks(0.41, 0.8) == [0.4, 0.5, 0.6, 0.7, 0.8]
    assert ticks(0, 3, whole=True) == [0, 1, 2, 3]
    assert ticks(5, 5) == [5, 6]
