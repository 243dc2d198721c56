import json
import logging
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tuneline import storage
from tuneline.data import encoding
from tuneline.data.dataset import TokenDataset
from tuneline.data.encoding import OverlengthPolicy
from tuneline.data.file_validation import validate_file
from tuneline.data.tokens import ChatTokenizer
from tuneline.data.transformation import Statistics, Transformation, metadata
from tuneline.errors import DatasetError
from tuneline.progress import Progress
from tuneline.resolution import Limits

CANARY = "wombat"


def write(path: Path, rows: list[tuple[str, str]]) -> str:
    path.write_text("".join(json.dumps({"prompt": prompt, "completion": completion}) + "\n" for prompt, completion in rows))
    return str(path)


class Bench:
    """Transforms rows of prompt and completion."""

    def __init__(self, folder: Path, tokenizer: ChatTokenizer) -> None:
        self.folder, self.tokenizer = folder, tokenizer
        self.reports: list[Progress] = []

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def run(
        self, rows: list[tuple[str, str]], evaluation: list[tuple[str, str]] | None = None, *, policy: OverlengthPolicy = "error", most: int = 64,
        limits: Limits = Limits(), context: str = "",
    ) -> Statistics:  # fmt: skip
        transformation = Transformation(
            tokenizer=self.tokenizer, base_model="tiny", max_sequence_length=most, limits=limits, default_context=context, overlength_policy=policy
        )
        evaluation_uri = write(self.folder / "evaluation.jsonl", evaluation) if evaluation is not None else ""
        return transformation.run(write(self.folder / "train.jsonl", rows), evaluation_uri, self.out, self.reports.append)

    def lines(self, name: str = "train") -> list[int]:
        lines: list[int] = TokenDataset.read(self.out / f"{name}.safetensors").lines.tolist()
        return lines


@pytest.fixture
def bench(tmp_path: Path, tokenizer: ChatTokenizer) -> Bench:
    return Bench(tmp_path, tokenizer)


LONG_ANSWER = ("q", "word " * 40)
LONG_PROMPT = ("word " * 40, "a")


def test_the_folder_holds_what_later_steps_read(bench: Bench, tokenizer: ChatTokenizer) -> None:
    statistics = bench.run([("q", "a"), ("add the sum", "    return a\n")], [("again", "b")])
    assert sorted(path.name for path in bench.out.iterdir()) == ["evaluation.safetensors", "evaluation_prompts.jsonl", "statistics.json", "train.safetensors"]
    assert json.loads((bench.out / "statistics.json").read_text()) == statistics
    training = TokenDataset.read(bench.out / "train.safetensors")
    assert tokenizer.decode(training.example(1)[0].tolist()) == "\nadd the sum\n    return a\n"
    ids, mask = training.example(1)
    assert tokenizer.decode([int(id_) for id_, learned in zip(ids, mask, strict=True) if learned]) == "    return a\n"
    [prompt] = [json.loads(line) for line in (bench.out / "evaluation_prompts.jsonl").read_text().splitlines()]
    example = TokenDataset.read(bench.out / "evaluation.safetensors").example(0)[0].tolist()
    assert prompt["prompt_ids"] == example[: len(prompt["prompt_ids"])]
    assert {name: prompt[name] for name in ("line", "prompt", "reference")} == {"line": 1, "prompt": "again", "reference": "b"}


def test_statistics_count_examples_and_tokens(bench: Bench) -> None:
    rows = [("q", "a"), ("q", "b"), ("q q q q q q q q q q q q q q q q q q", "a")]
    statistics = bench.run(rows)
    training = TokenDataset.read(bench.out / "train.safetensors")
    spread = {name: statistics["training"].pop(name) for name in ("input_tokens", "output_tokens", "messages")}  # type: ignore[attr-defined]
    assert {name: (values["sum"], values["min"], values["max"]) for name, values in spread.items()} == {
        "input_tokens": (int(training.lengths.sum()) - 6, 7, int(training.lengths.max()) - 2), "output_tokens": (6, 2, 2), "messages": (6, 2, 2),
    }  # fmt: skip
    assert statistics == {
        "format": "prompt-completion", "base_model": "tiny", "max_sequence_length": 64, "evaluation": None,
        "training": {
            "examples": 3, "tokens": int(training.lengths.sum()), "trained_tokens": 6, "longest": int(training.lengths.max()), "median": 9,
            "dropped_lines": [], "truncated_lines": [], "length_histogram": [[32, 2], [64, 1]],
            "characters": 40, "first_prompts": ["q", "q", rows[2][0]],
        },
    }  # fmt: skip


def test_metadata_is_flat_and_finite(bench: Bench) -> None:
    facts = metadata(bench.run([("q", "a")], [("q", "a")]))
    assert facts["training_examples"] == facts["evaluation_examples"] == 1
    assert all(isinstance(value, str | int) for value in facts.values())


def test_examples_that_are_too_long_are_errors_all_at_once(bench: Bench) -> None:
    with pytest.raises(DatasetError) as raised:
        bench.run([("q", "a"), LONG_ANSWER, ("q", "b"), LONG_PROMPT], [LONG_PROMPT])
    found = [(problem.rpartition("/")[2].partition(": ")[0], problem.rpartition("[")[2]) for problem in raised.value.problems]
    assert found == [("train.jsonl:2", "too-long]"), ("train.jsonl:4", "too-long]"), ("evaluation.jsonl:1", "too-long]")]
    assert not bench.out.exists()


def test_examples_that_are_too_long_are_dropped_when_asked(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        statistics = bench.run([("q", "a"), LONG_ANSWER, ("q", "b"), LONG_PROMPT], policy="drop")
    assert bench.lines() == [1, 3]
    assert statistics["training"]["dropped_lines"] == [2, 4]  # type: ignore[index]
    assert "dropped=2 longer_than=64 lines=2,4" in caplog.text


def test_examples_that_are_too_long_are_cut_when_asked_but_never_to_nothing_learned(bench: Bench) -> None:
    statistics = bench.run([LONG_ANSWER, LONG_PROMPT, ("q", "a")], policy="truncate")
    training = TokenDataset.read(bench.out / "train.safetensors")
    assert bench.lines() == [1, 3]
    assert training.lengths.max() == 64
    assert all(training.example(index)[1].any() for index in range(len(training)))
    assert statistics["training"]["truncated_lines"] == [1]  # type: ignore[index]
    assert statistics["training"]["dropped_lines"] == [2]  # type: ignore[index]


def test_an_example_of_exactly_the_longest_length_is_kept(bench: Bench, tokenizer: ChatTokenizer) -> None:
    bench.run([("q", "a")], most=9)
    assert bench.lines() == [1]
    with pytest.raises(DatasetError):
        bench.run([("q", "a")], most=8)


def test_a_data_set_of_which_nothing_is_left_is_an_error(bench: Bench) -> None:
    with pytest.raises(DatasetError, match="no example is left"):
        bench.run([LONG_PROMPT, LONG_PROMPT], policy="drop")
    with pytest.raises(DatasetError, match=r"evaluation.jsonl: no example is left"):
        bench.run([("q", "a")], [LONG_PROMPT], policy="truncate")


def test_evaluation_prompts_match_the_examples_that_are_kept(bench: Bench) -> None:
    bench.run([("q", "a")], [("q", "a"), LONG_PROMPT, LONG_ANSWER], policy="truncate")
    prompts = [json.loads(line) for line in (bench.out / "evaluation_prompts.jsonl").read_text().splitlines()]
    assert [prompt["line"] for prompt in prompts] == bench.lines("evaluation") == [1, 3]
    assert prompts[1]["reference"] == LONG_ANSWER[1]


def test_problems_of_both_files_and_their_limits_come_in_one_error(bench: Bench) -> None:
    with pytest.raises(DatasetError) as raised:
        bench.run([("q", ""), ("", "a")], [("q", "a"), (" ", "a")], limits=Limits(min_training_examples=10, max_evaluation_examples=1))
    assert [problem.rpartition("[")[2] for problem in raised.value.problems] == [
        "empty-content]", "empty-content]", "too-few-examples]", "empty-content]", "too-many-examples]",
    ]  # fmt: skip
    assert "tuneline validate" in raised.value.next_action


def test_the_default_context_is_learned_from_but_not_learned(bench: Bench, tokenizer: ChatTokenizer) -> None:
    bench.run([("q", "a")], context="be brief")
    ids, mask = TokenDataset.read(bench.out / "train.safetensors").example(0)
    assert "be brief" in tokenizer.decode(ids.tolist())
    assert int(mask.sum()) == 2


def test_many_batches_keep_the_order_and_report_progress(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "BATCH_EXAMPLES", 7)
    monkeypatch.setattr(encoding, "BATCH_CHARACTERS", 40)
    bench.run([(f"q{index}", "a" * (index % 9 + 1)) for index in range(100)])
    assert bench.lines() == list(range(1, 101))
    assert len(bench.reports) > 14
    assert [report.completed for report in bench.reports] == sorted(report.completed for report in bench.reports)
    assert bench.reports[-1].completed == bench.reports[-1].total == (bench.folder / "train.jsonl").stat().st_size
    assert bench.reports[-1].message == "examples=100"


def test_the_same_data_gives_the_same_bytes(bench: Bench, tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        bench.run([("q", "a"), ("x", "y")], [("q", "a")])
        contents.append({path.name: path.read_bytes() for path in bench.out.iterdir()})
    assert contents[0] == contents[1]


def test_neither_logs_nor_errors_quote_the_data(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    long = (f"{CANARY} " * 50, CANARY)
    with pytest.raises(DatasetError) as raised:
        bench.run([(CANARY, ""), long, (CANARY, CANARY)], [long])
    bench.run([(CANARY, CANARY), long], policy="drop")
    assert CANARY not in str(raised.value) + raised.value.next_action
    assert CANARY not in caplog.text
    assert not [report for report in bench.reports if CANARY in report.message + report.activity]


def test_a_missing_file_is_an_error_with_its_name(bench: Bench, tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    transformation = Transformation(tokenizer=tokenizer, base_model="tiny", max_sequence_length=64, limits=Limits())
    with pytest.raises(DatasetError, match=r"nothing\.jsonl: no such file"):
        transformation.run(str(tmp_path / "nothing.jsonl"), "", bench.out)


def test_data_is_read_from_a_bucket(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = MemoryFileSystem()
    monkeypatch.setattr(storage, "cloud_filesystem", lambda: bucket)
    bucket.pipe_file("bucket/train.jsonl", b'{"prompt": "q", "completion": "a"}\n' * 3)
    transformation = Transformation(tokenizer=bench.tokenizer, base_model="tiny", max_sequence_length=64, limits=Limits())
    transformation.run("gs://bucket/train.jsonl", "", bench.out, bench.reports.append)
    assert bench.lines() == [1, 2, 3]
    assert bench.reports[-1].completed == bench.reports[-1].total
    assert validate_file("gs://bucket/train.jsonl").examples == 3
    assert [problem.rule for problem in validate_file("gs://bucket/nothing.jsonl").problems] == ["unreadable-file"]


def test_general_examples_are_a_file_of_their_own_without_the_hosted_limits(bench: Bench) -> None:
    rows = [("q", "a")] * 3
    general = write(bench.folder / "general.jsonl", [("q", "b")])
    transformation = Transformation(tokenizer=bench.tokenizer, base_model="tiny", max_sequence_length=64, limits=Limits(min_evaluation_examples=3))
    data = [write(bench.folder / f"{name}.jsonl", rows) for name in ("train", "evaluation")]
    statistics = transformation.run(*data, bench.out, general_uri=general)
    assert bench.lines("general") == [1]
    assert statistics.keys() == bench.run(rows).keys()


def test_general_examples_are_refused_with_the_others(bench: Bench) -> None:
    transformation = Transformation(tokenizer=bench.tokenizer, base_model="tiny", max_sequence_length=64, limits=Limits())
    data = [write(bench.folder / f"{name}.jsonl", [("q", "")]) for name in ("train", "general")]
    with pytest.raises(DatasetError) as raised:
        transformation.run(data[0], "", bench.out, general_uri=data[1])
    assert [problem.partition(":")[0] for problem in raised.value.problems] == data
    assert not bench.out.exists()
