from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from tuneline.data.dataset import DatasetBuilder, TokenDataset
from tuneline.errors import DatasetError

Array = NDArray[np.generic]


def dataset() -> TokenDataset:
    builder = DatasetBuilder()
    builder.add(1, [5, 6, 7], [False, True, True])
    builder.add(4, [8, 9], [False, True])
    return builder.build()


def test_examples_come_back_as_they_were_written(tmp_path: Path) -> None:
    dataset().write(tmp_path / "folder" / "train.safetensors")
    read = TokenDataset.read(tmp_path / "folder" / "train.safetensors")
    assert len(read) == 2
    assert [(ids.tolist(), mask.tolist()) for ids, mask in map(read.example, range(2))] == [([5, 6, 7], [0, 1, 1]), ([8, 9], [0, 1])]
    assert read.lines.tolist() == [1, 4]
    assert read.lengths.tolist() == [3, 2]


def test_the_same_examples_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        dataset().write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tensors_have_the_agreed_types(tmp_path: Path) -> None:
    dataset().write(tmp_path / "x")
    assert {name: str(values.dtype) for name, values in load_file(tmp_path / "x").items()} == {
        "input_ids": "int32", "loss_mask": "uint8", "offsets": "int64", "lines": "int64",
    }  # fmt: skip


def test_there_is_no_example_outside_the_data_set() -> None:
    for index in (-1, 2):
        with pytest.raises(IndexError):
            dataset().example(index)


def is_refused(path: Path) -> bool:
    try:
        TokenDataset.read(path)
    except DatasetError:
        return True
    return False


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    whole: dict[str, Array] = {
        "input_ids": np.zeros(5, np.int32),
        "loss_mask": np.zeros(5, np.uint8),
        "offsets": np.array([0, 3, 5]),
        "lines": np.array([1, 4]),
    }
    damaged: dict[str, dict[str, Array]] = {
        "a tensor is missing": {name: values for name, values in whole.items() if name != "lines"},
        "another type": {**whole, "input_ids": np.zeros(5, np.int64)},
        "another shape": {**whole, "input_ids": np.zeros((5, 1), np.int32)},
        "too few offsets": {**whole, "offsets": np.array([0, 5])},
        "falling offsets": {**whole, "offsets": np.array([0, 6, 5])},
        "offsets beyond the end": {**whole, "offsets": np.array([0, 3, 9])},
        "a shorter mask": {**whole, "loss_mask": np.zeros(4, np.uint8)},
    }
    save_file(whole, tmp_path / "whole")
    assert len(TokenDataset.read(tmp_path / "whole")) == 2
    for name, tensors in damaged.items():
        save_file(tensors, tmp_path / "file")
        assert is_refused(tmp_path / "file"), name
    (tmp_path / "file").write_bytes((tmp_path / "whole").read_bytes()[:-3])
    assert is_refused(tmp_path / "file")
    assert is_refused(tmp_path / "nothing")
