"""One dataclass as flags, as KFP's arguments, as a table."""

import inspect
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneline.errors import UsageError
from tuneline.interface import descriptions, flags, parse, part, table, taking
from tuneline.parameters import TuneModel, TuningParameters, UploadModel

HOSTILE = [
    "--x",
    "--note",
    "--count=3",
    "-1",
    "=",
    "a=b",
    "",
    " ",
    "line\nbreak",
    "{{x}}",
    "{{$.inputs}}",
    "$(HOME)",
    "$HOME",
    "`id`",
    "it's",
    '"',
    "\\",
    "naïve 試し",
]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much."""

    count: int
    """How many."""
    rate: float = 0.5
    """How fast: in units
    a second."""
    is_open: bool = True
    mode: Literal["fast", "slow"] = "fast"
    """Which way."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """What it is called."""

    note: str
    """A word."""


@dataclass(frozen=True, kw_only=True)
class Both(Size, Named):
    """An heir that says one thing anew."""

    mode: Literal["fast", "slow"] = "slow"
    """Which way, slowly."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """Paths."""

    dataset: Path
    output_checkpoints: Path


def problems_of(*argv: str) -> tuple[str, ...]:
    with pytest.raises(UsageError) as caught:
        parse(argv, Size, Named)
    return caught.value.problems


def test_flags_become_objects() -> None:
    argv = ["--count", "3", "--rate=1e-05", "--is-open", "false", "--mode", "slow", "--dataset", "/data", "--output-checkpoints=/out"]
    assert parse(argv, Size, Files) == (
        Size(count=3, rate=1e-05, is_open=False, mode="slow"),
        Files(dataset=Path("/data"), output_checkpoints=Path("/out")),
    )


def test_a_flag_that_is_not_given_takes_the_default() -> None:
    assert parse(["--count", "3"], Size) == (Size(count=3, rate=0.5, is_open=True, mode="fast"),)


def test_a_field_of_two_groups_is_given_once() -> None:
    argv = ["--count", "3", "--note", "x"]
    assert parse(argv, Both, Named) == (Both(count=3, note="x"), Named(note="x"))


@pytest.mark.parametrize(
    ("text", "value"),
    [("300", 300), ("300.0", 300), ("-1", -1), ("+2", 2), ("1e3", 1000), ("0", 0), ("9007199254740993", 9007199254740993)],
)
def test_integers_are_read_as_orchestrators_write_them(text: str, value: int) -> None:
    assert parse(["--count", text], Size)[0].count == value


@pytest.mark.parametrize("text", ["", "3.5", "x", "nan", "inf", "1e999", "1_000", "0x10", "٣", " 3", "True"])
def test_what_is_not_an_integer_is_refused(text: str) -> None:
    assert problems_of("--note", "x", "--count", text) == (f"--count is {text!r}; expected a whole number.",)


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "1e999", "1_0.5"])
def test_what_is_not_a_finite_number_is_refused(text: str) -> None:
    assert problems_of("--note", "x", "--count", "1", "--rate", text) == (f"--rate is {text!r}; expected a number.",)


@pytest.mark.parametrize(("text", "value"), [("True", True), ("true", True), ("False", False), ("false", False)])
def test_booleans_are_read_as_python_and_json_write_them(text: str, value: bool) -> None:
    assert parse(["--count", "1", "--is-open", text], Size)[0].is_open is value


@pytest.mark.parametrize("text", ["", "1", "yes", "TRUE", "None"])
def test_what_is_not_a_boolean_is_refused(text: str) -> None:
    assert problems_of("--note", "x", "--count", "1", "--is-open", text) == (f"--is-open is {text!r}; expected 'true' or 'false'.",)


def test_an_empty_path_is_refused() -> None:
    with pytest.raises(UsageError, match="--dataset is ''; expected a path"):
        parse(["--dataset", "", "--output-checkpoints", "/out"], Files)


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("joined", [False, True])
def test_hostile_text_arrives_unchanged(value: str, joined: bool) -> None:
    argv = [f"--note={value}"] if joined else ["--note", value]
    assert parse([*argv, "--count", "1"], Size, Named) == (Size(count=1), Named(note=value))


@given(st.text(), st.booleans())
def test_any_text_arrives_unchanged(value: str, joined: bool) -> None:
    assert parse([f"--note={value}"] if joined else ["--note", value], Named) == (Named(note=value),)


def test_all_problems_are_told_at_once() -> None:
    assert problems_of("--cuont", "3", "stray", "--rate", "fast", "--rate", "slow", "--mode", "wild", "--is-open") == (
        "unknown flag '--cuont'. Did you mean '--count'?",
        "unexpected argument 'stray'; expected a flag such as --count.",
        "--rate is given twice.",
        "--is-open needs a value.",
        "--rate is 'fast'; expected a number.",
        "--mode is 'wild'; expected one of 'fast', 'slow'.",
        "--count is missing.",
        "--note is missing.",
    )


def test_a_type_that_cannot_be_a_flag_is_the_programmers_error() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Wrong:
        values: tuple[int, ...]

    with pytest.raises(TypeError, match="cannot be a flag"):
        parse(["--values", "1"], Wrong)


def test_flags_are_kebab_case() -> None:
    assert flags(Files) == ("--dataset", "--output-checkpoints")


def test_descriptions_are_the_strings_below_the_fields_and_heirs_win() -> None:
    assert descriptions(Both) == {
        "note": "A word.",
        "count": "How many.",
        "rate": "How fast: in units a second.",
        "is_open": "",
        "mode": "Which way, slowly.",
    }


@pytest.mark.parametrize("group", [TuningParameters, TuneModel])
def test_every_pipeline_parameter_is_described(group: type[TuningParameters]) -> None:
    assert [name for name, text in descriptions(group).items() if not text.endswith(".")] == []


def test_part_takes_the_fields_of_a_group_out_of_the_whole() -> None:
    whole = TuningParameters(project="p", model_display_name="m", train_steps=7)
    assert part(TuneModel, whole)["train_steps"] == 7
    uploaded = part(UploadModel, whole)
    assert list(uploaded) == [field.name for field in fields(UploadModel)]
    assert (uploaded["project"], uploaded["model_display_name"], uploaded["upload_model"]) == ("p", "m", True)


def test_table_shows_types_defaults_and_meaning() -> None:
    assert table(Both).splitlines() == [
        "| parameter | type | default | meaning |",
        "|---|---|---|---|",
        "| `note` | `str` | required | A word. |",
        "| `count` | `int` | required | How many. |",
        "| `rate` | `float` | `0.5` | How fast: in units a second. |",
        "| `is_open` | `bool` | `true` |  |",
        '| `mode` | `"fast"`, `"slow"` | `"slow"` | Which way, slowly. |',
    ]


@taking(Size, Named)
def example(size: Size, named: Named, source: str, limit: int = 5) -> object:
    """Do a thing.

    Args:
        source: Where from.

    Returns:
        What came out.
    """
    return size, named, source, limit


def test_taking_shows_the_fields_as_typed_arguments() -> None:
    shown = inspect.signature(example).parameters
    assert {name: (parameter.annotation, parameter.default) for name, parameter in shown.items()} == {
        "count": (int, inspect.Parameter.empty),
        "note": (str, inspect.Parameter.empty),
        "source": (str, inspect.Parameter.empty),
        "rate": (float, 0.5),
        "is_open": (bool, True),
        "mode": (str, "fast"),
        "limit": (int, 5),
    }


def test_taking_documents_the_fields_before_the_functions_own_arguments() -> None:
    assert inspect.getdoc(example) == "\n".join(
        [
            "Do a thing.",
            "",
            "Args:",
            "    count: How many.",
            "    rate: How fast: in units a second.",
            "    is_open: ",
            "    mode: Which way.",
            "    note: A word.",
            "    source: Where from.",
            "",
            "Returns:",
            "    What came out.",
        ]
    )


def test_taking_gives_the_function_its_groups() -> None:
    assert example(3, "n", "s", is_open=False) == (Size(count=3, is_open=False), Named(note="n"), "s", 5)


def test_taking_refuses_an_argument_that_no_group_has() -> None:
    with pytest.raises(TypeError, match="cuont"):
        example(count=3, note="n", source="s", cuont=3)
