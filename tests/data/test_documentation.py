"""What the documentation and the example say about data is true."""

import json
import re
from pathlib import Path

import pytest

from tuneline.data.file_validation import validate_file
from tuneline.data.formats import FORMATS, read_object
from tuneline.data.problems import RULES
from tuneline.resolution import Limits

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/data-formats.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples/stdlib-code"
HOSTED = Limits(min_training_examples=10, max_training_examples=10_000, max_author_fields=10_000, min_evaluation_examples=10, max_evaluation_examples=250)


def test_every_format_of_the_page_is_read_as_it_is() -> None:
    lines = [line for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    reads = [read_object(json.loads(line)) for line in lines]
    assert not [finding for read in reads for finding in read.findings]
    assert {read.data_format for read in reads} == set(FORMATS)


def test_the_page_lists_every_rule() -> None:
    assert dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.*) \|$", PAGE.partition("| rule |")[2].partition("##")[0], re.MULTILINE)) == RULES


def test_every_rule_of_the_code_is_listed_and_every_listed_rule_is_in_the_code() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src/tuneline/data").glob("*.py")) if path.name != "problems.py")
    written = set(re.findall(r'"([a-z0-9]+(?:-[a-z0-9]+)+)"', sources)) - FORMATS.keys() - {"site-packages", "utf-8"}
    assert len(written) > 20
    assert written <= RULES.keys()
    assert [rule for rule in RULES if f'"{rule}"' not in sources] == []


@pytest.mark.parametrize(("file", "role"), [("train", "train"), ("evaluation", "evaluation"), ("chat/train", "train"), ("chat/evaluation", "evaluation")])
def test_the_example_data_are_valid_for_the_hosted_references(file: str, role: str) -> None:
    report = validate_file(str(EXAMPLE / f"{file}.jsonl"), role=role, limits=HOSTED)  # type: ignore[arg-type]
    assert report.problems.kept == []
    assert report.examples == {"train": 2400, "evaluation": 250}[role]
    assert report.data_format == ("author-chat" if "chat" in file else "input-output")


def test_the_example_question_is_one_of_evaluation() -> None:
    questions = {json.loads(line)["input_text"] for line in (EXAMPLE / "evaluation.jsonl").read_text(encoding="utf-8").splitlines()}
    assert (EXAMPLE / "question.txt").read_text(encoding="utf-8") in questions


def test_training_and_evaluation_of_the_example_share_no_answer() -> None:
    texts = [(EXAMPLE / f"{name}.jsonl").read_text(encoding="utf-8") for name in ("train", "evaluation")]
    answers = [{json.loads(line)["output_text"] for line in text.splitlines()} for text in texts]
    assert len(answers[0]) > 2000
    assert not answers[0] & answers[1]
