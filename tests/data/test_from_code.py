import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneline.data.file_validation import validate_file
from tuneline.data.from_code import FORMATS, Function, Selection, documented_functions, is_held_out, prompt, source_files, split, write_dataset
from tuneline.errors import DatasetError

CODE = '''
"""Module."""

class Box:
    """A box."""

    def add(self, item: int, *, twice: bool = False) -> "Box":
        """Put an item in.

        Twice if asked.
        """
        self.items.append(item)  # kept in order
        return self

    @property
    def size(self) -> int:
        """How many."""
        return len(self.items) + 0 * len(self.items)

    def undocumented(self): return 1

async def fetch(url):
    """Get it."""
    answer = await get(url)
    return answer

def empty():
    """Nothing to see."""
    pass

def short():
    """Too short to learn from."""
    return 1
'''


def found(code: str) -> dict[str, Function]:
    return {function.qualified_name: function for function in documented_functions("m", textwrap.dedent(code))}


def test_documented_functions_that_do_something_are_found() -> None:
    assert list(found(CODE)) == ["Box.add", "Box.size", "fetch"]


def test_signature_docstring_and_code_are_taken_apart() -> None:
    add = found(CODE)["Box.add"]
    assert add.signature == "def add(self, item: int, *, twice: bool=False) -> 'Box'"
    assert add.docstring == "Put an item in.\n\nTwice if asked."
    head, documentation = 'def add(self, item: int, *, twice: bool = False) -> "Box":\n', '    """Put an item in.\n\n    Twice if asked.\n    """\n'
    assert add.code == head + documentation + "    self.items.append(item)  # kept in order\n    return self\n"
    assert found(CODE)["fetch"].signature == "async def fetch(url)"
    assert prompt(add).startswith("Write the function `add` of class `Box`, module `m`.\n\ndef add(")


def test_code_that_does_not_stand_alone_is_left_out() -> None:
    left = 'class A:\n    def f(self):\n        """doc"""\n        return """\nleft of the definition\n""" + self.x\n'
    assert not list(documented_functions("m", left))


@given(st.text(max_size=80))
def test_any_text_gives_functions_or_nothing(source: str) -> None:
    for function in documented_functions("m", source):
        assert function.docstring


def tree(root: Path, modules: int = 40) -> Path:
    for index in range(modules):
        path = root / f"package{index % 4}" / f"module{index}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(_function(index, number) for number in range(5)))
    for skipped in ("tests/test_x.py", "package0/__pycache__/x.py", ".hidden/x.py", "node_modules/x.py"):
        (root / skipped).parent.mkdir(parents=True, exist_ok=True)
        (root / skipped).write_text(_function(999, 1))
    return root


def _function(index: int, number: int) -> str:
    return f'def f{index}_{number}(a, b):\n    """Add {index} and {number} to a and b."""\n    total = a * {index} + b * {number}\n    return total\n\n'


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_tests_caches_and_hidden_folders_are_skipped(tmp_path: Path) -> None:
    names = [name for name, _ in source_files(tree(tmp_path))]
    assert len(names) == 40
    assert names == sorted(names)
    assert "package1.module1" in names


def test_the_same_tree_gives_the_same_bytes_wherever_it_lies(tmp_path: Path) -> None:
    outputs = []
    for name in ("here", "there/deep"):
        out = tmp_path / name / "out"
        write_dataset(tree(tmp_path / name / "repo"), out)
        outputs.append([(out / file).read_bytes() for file in ("train.jsonl", "evaluation.jsonl")])
    assert outputs[0] == outputs[1]
    assert all(outputs[0])


def test_no_module_gives_examples_to_both_sides(tmp_path: Path) -> None:
    counts = write_dataset(tree(tmp_path / "repo"), tmp_path / "out", selection=Selection(evaluation_fraction=0.3))
    modules = [{row["input_text"].split("module `")[1].split("`")[0] for row in rows(tmp_path / "out" / name)} for name in ("train.jsonl", "evaluation.jsonl")]
    assert modules[0]
    assert modules[1]
    assert not modules[0] & modules[1]
    assert (counts["training_modules"], counts["evaluation_modules"]) == (len(modules[0]), len(modules[1]))


def test_a_new_module_moves_no_other_to_the_other_side() -> None:
    names = [f"a.b{index}" for index in range(500)]
    assert {name for name in names if is_held_out(name, 0.1)} <= {name for name in names if is_held_out(name, 0.2)}
    assert 20 < sum(is_held_out(name, 0.1) for name in names) < 90


def _same(module: str, name: str) -> Function:
    return Function(module=module, qualified_name=name, signature=f"def {name}()", docstring=f"doc of {name}", code=f"def {name}(): x()\n", body="x()")


def modules(*, held_out: bool) -> Iterator[str]:
    return (name for index in range(1000) if is_held_out(name := f"m{index}", 0.1) == held_out)


def test_a_body_or_docstring_of_training_never_comes_back_in_evaluation() -> None:
    train, test = next(modules(held_out=False)), next(modules(held_out=True))
    assert split([_same(train, "a"), _same(test, "b")], Selection())[1] == []
    assert len(split([_same(test, "b")], Selection())[1]) == 1


def test_duplicates_are_taken_once() -> None:
    train = next(modules(held_out=False))
    assert len(split([_same(train, "a"), _same(train, "a")], Selection())[0]) == 1


def test_limits_on_number_and_length_hold(tmp_path: Path) -> None:
    tree(tmp_path / "repo")
    counts = write_dataset(tmp_path / "repo", tmp_path / "out", selection=Selection(max_examples=7, max_evaluation_examples=2))
    assert (counts["training_examples"], counts["evaluation_examples"]) == (7, 2)
    with pytest.raises(DatasetError, match="no function with a docstring"):
        write_dataset(tmp_path / "repo", tmp_path / "none", selection=Selection(max_characters=10))


@pytest.mark.parametrize("data_format", FORMATS)
def test_every_format_passes_the_validator(tmp_path: Path, data_format: str) -> None:
    write_dataset(tree(tmp_path / "repo"), tmp_path / "out", data_format)
    for name in ("train.jsonl", "evaluation.jsonl"):
        report = validate_file(str(tmp_path / "out" / name))
        assert report.ok
        assert report.data_format == data_format


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected a folder"):
        write_dataset(tmp_path / "nothing", tmp_path / "out")
