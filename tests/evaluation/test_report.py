"""The report: complete, self-contained, and deaf to whatever its texts would like to be."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tuneline.evaluation.promotion import Promotion
from tuneline.evaluation.report import METRICS, Facts, comparisons, render, summarise
from tuneline.evaluation.results import Evaluation, Generation, History, Measured
from tuneline.evaluation.selection import Selection
from tuneline.evaluation.statistics import DataStatistics, SplitStatistics
from tuneline.resolution import Limits, Resolved, ResolvedModel

BASE = Measured(step=0, loss=2.677, token_accuracy=0.412, num_predictions=6412, exact_match=0.0, rouge_l=0.173, chrf=0.216)
TUNED = Measured(step=220, loss=0.795, token_accuracy=0.796, num_predictions=6412, exact_match=0.5, rouge_l=0.714, chrf=0.688)
LATER = Measured(step=300, loss=0.822, token_accuracy=0.794, num_predictions=6412)
HISTORY = History(
    steps=300,
    examples=612,
    batch_size=8,
    epochs=3.92,
    stopped_early="",
    seconds=412.6,
    tokens_per_second=1873.2,
    learning_rate=5e-4,
    train=tuple(Measured(step=step, loss=3 - step / 150, token_accuracy=0.4 + step / 600, num_predictions=500) for step in range(1, 301)),
    evaluations=(BASE, TUNED, LATER),
)
SPLIT = SplitStatistics(
    examples=612,
    tokens=126_420,
    trained_tokens=71_233,
    longest=1011,
    median=183,
    dropped_lines=(7,),
    truncated_lines=(),
    length_histogram=((64, 41), (128, 151)),
)
STATISTICS = DataStatistics(training=SPLIT, evaluation=replace(SPLIT, examples=50, dropped_lines=()))


def evaluation_of(base: Measured = BASE, tuned: Measured = TUNED, *, text: str = "x") -> Evaluation:
    generations = tuple(Generation(line=line, prompt=f"p{text}", reference=f"r{text}", base=f"b{text}", tuned=f"t{text}") for line in (1, 2, 3, 4, 5, 6))
    return Evaluation(base=base, candidates=(tuned, LATER), selected_step=tuned.step, metric="token_accuracy", generations=generations)


def page(*, text: str = "x", statistics: DataStatistics = STATISTICS, history: History = HISTORY, evaluation: Evaluation | None = None) -> str:
    """A whole report in which `text` stands wherever a text comes from outside."""
    resolved = Resolved(
        backend="local",
        pipeline_region=f"pipeline{text}",
        upload_region=f"upload{text}",
        tuning_region=f"tuning{text}",
        machine_type=f"machine{text}",
        accelerator_type=f"accelerator{text}",
        accelerator_count=8,
        batch_size=8,
        base_model=ResolvedModel(reference=f"asked{text}", stands_in=f"stand-in{text}", uri=f"uri{text}", max_sequence_length=1024, learning_rate=5e-4),
        limits=Limits(),
        reasons=(f"because{text}",),
    )
    champion = replace(BASE, general_loss=1.5)
    return render(
        f"name{text}",
        Facts(resolved=resolved, statistics=statistics, history=replace(history, stopped_early=f"early{text}")),
        evaluation or replace(evaluation_of(text=text), champion=champion),
        Selection(220 if evaluation is None else evaluation.selected_step, f"reason{text}"),
        Promotion(is_promoted=True, reason=f"promoted{text}"),
    )


class Structure(HTMLParser):
    """Elements with their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(attrs)))

    def handle_comment(self, data: str) -> None:
        self.elements.append(("comment", ((data, None),)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


PAYLOADS = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</pre><img src=x onerror=alert(1)>",
    "<img src=x onerror=alert(1)//",
    '"><svg onload=alert(1)>',
    "'><svg/onload=alert(1)>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<svg><script xlink:href=data:,alert(1) />",
    "<iframe src=javascript:alert(1)>",
    '<iframe srcdoc="<script>alert(1)</script>">',
    "<body onload=alert(1)>",
    "<input autofocus onfocus=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)>",
    "<math><mtext></mtext><mglyph><style><img src=x onerror=alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    '<a href="&#106;avascript:alert(1)">x</a>',
    "<meta http-equiv=refresh content='0;url=https://example.com'>",
    "<link rel=stylesheet href=//example.com/x.css>",
    "<base href=//example.com/>",
    "<form action=//example.com><button>x",
    "<object data=//example.com/x.swf>",
    "<!--<img src=x onerror=alert(1)>-->",
    "--><script>alert(1)</script>",
    "<![CDATA[<script>alert(1)</script>]]>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "{{ 7 * 7 }}{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "${7*7} <%= 7*7 %> #{7*7}",
    "\" onmouseover=alert(1) x=\"' onmouseover=alert(1) x='",
    "` onmouseover=alert(1) x=`",
    "<scr\x00ipt>alert(1)</scr\x00ipt>",
    "\u202e<script>alert(1)</script>",
]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_texts_stay_texts(payload: str) -> None:
    hostile, harmless = Structure(page(text=payload)), Structure(page(text="x"))
    assert hostile.elements == harmless.elements
    said = "".join(hostile.text)
    for place in ("name", "stand-in", "asked", "uri", "because", "reason", "promoted", "early", "machine", "accelerator", "tuning", "p", "r", "b", "t"):
        assert place + payload in said, place


def test_the_comparison_of_structures_would_notice_a_payload() -> None:
    html = page(text="PLACE")
    noticed = sum(Structure(html.replace("PLACE", payload)).elements != Structure(html).elements for payload in PAYLOADS)
    assert noticed >= 25  # the others harm only templates, attributes or eyes


def test_the_page_needs_nothing_from_outside_and_forbids_it() -> None:
    html = page()
    assert "default-src 'none'" in html
    attributes = {name for _, pairs in Structure(html).elements for name, _ in pairs}
    assert not attributes & {"src", "href", "srcset", "action", "data", "xlink:href"}
    assert not {name for name in attributes if name.startswith("on")}
    tags = Counter(tag for tag, _ in Structure(html).elements)
    assert not tags.keys() & {"script", "link", "img", "iframe", "object", "base"}
    assert tags["svg"] == 4
    for word in ("url(", "@import", "http:", "https:"):
        assert word not in html


def test_light_and_dark_are_both_there() -> None:
    assert "prefers-color-scheme: dark" in page()


def test_everything_a_reader_asks_for_is_on_the_page() -> None:
    said = " ".join("".join(Structure(page()).text).split())
    for fact in (
        "Tuned from stand-inx, the stand-in for askedx",
        "Tuning helped: on examples that it was not tuned on, token accuracy rose from 41.2% to 79.6% and loss fell from 2.677 to 0.795.",
        "Of 6 generated answers 3 equal the reference; the base model had none.",
        "+38.4 points",
        "\u22121.882",
        "selected: step 220",
        "71,233",
        "Training data, dropped: line 7.",
        "The first 5 of 6 answered prompts.",
        "3.92 over 612 examples",
        "6 min 53 s, 1,873 tokens a second",
        "stopped early: earlyx",
        "reasonx",
        "promotedx",
    ):
        assert fact in said, fact
    assert said.count("Evaluation data, line") == 5


def test_an_answer_that_equals_the_reference_is_marked_and_white_space_is_kept() -> None:
    generation = Generation(line=1, prompt="\n  def f():", reference="    return 1\n", base="   ", tuned="return 1")
    html = page(evaluation=replace(evaluation_of(), generations=(generation,)))
    assert html.count("equals the reference</span>") == 1
    assert "<pre>\n\n  def f():</pre>" in html, "a browser drops the first line break after <pre>"
    assert "(empty)" in html


def test_without_evaluation_data_the_page_says_what_is_missing() -> None:
    bare = Evaluation(base=Measured(step=0), candidates=(Measured(step=150), Measured(step=300)), selected_step=300, metric="token_accuracy", generations=())
    html = page(statistics=replace(STATISTICS, evaluation=None), history=replace(HISTORY, evaluations=()), evaluation=bare)
    said = " ".join("".join(Structure(html).text).split())
    assert "There is no evaluation data, so nothing can be said about examples that the model has not seen." in said
    assert "Training loss went from 2.963 to 1.030 (means of the first and last 10 steps)." in said
    assert "Saved at steps 150, 300." in said
    assert "Answers, side by side" not in said


def test_a_run_that_diverged_still_gets_a_report() -> None:
    lost = Measured(step=20, num_predictions=6412)
    diverged = Evaluation(base=BASE, candidates=(lost,), selected_step=20, metric="token_accuracy", generations=())
    html = page(history=replace(HISTORY, train=(lost,), evaluations=(lost,)), evaluation=diverged)
    assert "The evaluation gave no finite numbers" in html
    assert "<svg" in html, "the histograms remain"
    assert "nan" not in html.lower().replace(">", " ").replace("<", " ").split()


@pytest.mark.parametrize(
    ("tuned", "opening"),
    [
        (TUNED, "Tuning helped"),
        (replace(TUNED, token_accuracy=0.3), "Tuning did not help"),
        (replace(TUNED, token_accuracy=0.41201), "Tuning changed little"),
    ],
)
def test_the_summary_says_honestly_whether_it_helped(tuned: Measured, opening: str) -> None:
    assert summarise(evaluation_of(tuned=tuned), HISTORY).startswith(opening)


def test_lower_loss_is_better_and_higher_everything_else() -> None:
    worse = Measured(step=20, loss=3.0, token_accuracy=0.3, num_predictions=9, exact_match=0.0, rouge_l=0.1, chrf=0.1)
    assert [row.verdict for row in comparisons(BASE, TUNED)] == ["better"] * 5
    assert [row.verdict for row in comparisons(BASE, worse)] == ["worse", "worse", "", "worse", "worse"]
    assert [row.difference for row in comparisons(BASE, worse)] == ["\u221211.2 points", "+0.323", "±0", "\u22127.3 points", "\u221211.6 points"]


def test_every_selection_metric_is_shown() -> None:
    assert {metric.name for metric in METRICS} == set(Measured(step=0).__dataclass_fields__) - {"step", "num_predictions", "general_loss"}


def test_the_champion_is_compared_where_there_is_one() -> None:
    compared = "".join(Structure(page()).text)
    assert "ChampionTuned" in compared.replace("\n", "").replace(" ", "")
    first = "".join(Structure(page(evaluation=evaluation_of())).text)
    assert "promotedx" in first
    assert "ChampionTuned" not in first.replace("\n", "").replace(" ", "")
