import math

import pytest

from tuneline.local.values import ParameterType, json_value, to_text, typed


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (300.0, "NUMBER_INTEGER", 300),
        ("300.0", "NUMBER_INTEGER", 300),
        ("7", "NUMBER_DOUBLE", 7.0),
        (1, "NUMBER_DOUBLE", 1.0),
        ("True", "BOOLEAN", True),
        ("false", "BOOLEAN", False),
        ("[1, 2]", "LIST", [1, 2]),
        ('{"a": [1]}', "STRUCT", {"a": [1]}),
        ("300", "STRING", "300"),
        ("", "STRING", ""),
    ],
)
def test_texts_and_values_become_what_the_type_says(value: object, kind: ParameterType, expected: object) -> None:
    found = typed(value, kind)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1.5, "NUMBER_INTEGER"),
        (True, "NUMBER_INTEGER"),
        ("NaN", "NUMBER_DOUBLE"),
        ("yes", "BOOLEAN"),
        (1, "BOOLEAN"),
        ("{}", "LIST"),
        (1, "STRING"),
        (None, "STRING"),
    ],
)
def test_other_values_are_refused(value: object, kind: ParameterType) -> None:
    with pytest.raises(ValueError, match="is not"):
        typed(value, kind)


def test_json_has_no_infinities_and_no_other_types() -> None:
    for value in (math.nan, [math.inf], {"a": {1, 2}}):
        with pytest.raises(ValueError, match="is not"):
            json_value(value)
    assert json_value({"a": (1, None)}) == {"a": [1, None]}


def test_texts_stand_for_themselves_in_commands() -> None:
    assert [to_text(value) for value in ('a "b"', 3, 1.5, False, ["é"])] == ['a "b"', "3", "1.5", "false", '["é"]']
