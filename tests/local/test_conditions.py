import pytest

from tuneline.errors import TemplateError
from tuneline.local.conditions import parse

VALUES = {"n": 4, "rate": 1.5, "flag": True, "word": 'it\'s "quoted"', "digits": "12"}


def read(text: str) -> str:
    return text.replace("$", "inputs.parameter_values")


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("int($['n']) > 3", True),
        ("$['n'] <= 3", False),
        ("$['rate'] >= 1.5", True),
        ("$['rate'] != 1.5", False),
        ("$['flag'] == true", True),
        ("!($['flag'] == true)", False),
        ("!!$['flag']", True),
        ("$['word'] == 'it\\'s \"quoted\"'", True),
        ('$["word"] == "other"', False),
        ("int($['digits']) == 12", True),
        ("double($['digits']) < 12.5", True),
        ("string($['n']) == '4'", True),
        ("$['n'] == 4 && $['rate'] > 2.0 || $['flag'] == true", True),
        ("$['n'] == 4 && ($['rate'] > 2.0 || $['flag'] == false)", False),
        ("!(int($['n']) > 3) && $['word'] != 'abc'", False),
        ("'b' > 'a'", True),
        ("-1 < 1e3", True),
    ],
)
def test_conditions_hold_as_in_the_specification(text: str, holds: bool) -> None:
    assert parse(read(text)).holds(VALUES) is holds


def test_both_sides_of_or_need_not_be_meaningful_when_the_first_decides() -> None:
    assert parse(read("$['flag'] || $['word'] > 3")).holds(VALUES)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "$['n'",
        "$[n] == 4",
        "$['n'] = 4",
        "$['n'] == 4 and true",
        "__import__('os').system('true')",
        "inputs.parameters['n'] == 4",
        "$['word'] == 'it's'",
        "1 + 1 == 2",
        "size($['word']) == 2",
        "((1 == 1)",
        "1 == 1)",
        "(" * 500 + "true" + ")" * 500,
        "!" * 500 + "true",
        "'open",
    ],
)
def test_what_the_grammar_does_not_know_is_refused(text: str) -> None:
    with pytest.raises(TemplateError, match="cannot be read at"):
        parse(read(text))


@pytest.mark.parametrize("text", ["$['n'] == 'four'", "$['flag'] == 1", "int($['word']) == 1", "$['n'] && true", "$['n']", "$['flag'] < true"])
def test_values_of_another_type_are_refused_not_guessed(text: str) -> None:
    with pytest.raises(TemplateError):
        parse(read(text)).holds(VALUES)


def test_a_text_never_becomes_part_of_the_expression() -> None:
    condition = parse(read("$['word'] == 'x'"))
    assert not condition.holds({"word": "x' || 'a' == 'a"})
    assert condition.inputs() == {"word"}
