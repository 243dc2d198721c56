"""The transformed data set: token ids and loss masks of many examples in a few flat arrays, as a safetensors file."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tuneline.errors import DatasetError

TYPES = {"input_ids": np.dtype(np.int32), "loss_mask": np.dtype(np.uint8), "offsets": np.dtype(np.int64), "lines": np.dtype(np.int64)}


@dataclass(frozen=True)
class TokenDataset:
    """Examples end to end; example `i` lies in `offsets[i]:offsets[i + 1]`."""

    input_ids: NDArray[np.int32]
    loss_mask: NDArray[np.uint8]
    """1 where the token is learned."""
    offsets: NDArray[np.int64]
    lines: NDArray[np.int64]
    """Line of each example in the file that it came from."""

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example."""
        return np.diff(self.offsets)

    @property
    def trained_lengths(self) -> NDArray[np.int64]:
        """Tokens of each example that are learned."""
        if not len(self):
            return np.zeros(0, dtype=np.int64)
        return np.add.reduceat(self.loss_mask, self.offsets[:-1], dtype=np.int64)

    def example(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Token ids and loss mask of one example, as views."""
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        place = slice(self.offsets[index], self.offsets[index + 1])
        return self.input_ids[place], self.loss_mask[place]

    def write(self, path: Path) -> None:
        """Write a safetensors file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: getattr(self, name) for name in TYPES}, path)

    @classmethod
    def read(cls, path: Path) -> "TokenDataset":
        """Read what `write` wrote; anything else is refused."""
        try:
            arrays = load_file(path)
        except (OSError, SafetensorError) as error:
            raise DatasetError(f"{path} cannot be read as a transformed data set: {error}.", next_action="Run transform-dataset again.") from error
        if {name: values.dtype for name, values in arrays.items()} != TYPES or any(values.ndim != 1 for values in arrays.values()):
            raise DatasetError(f"{path} is no transformed data set; expected {', '.join(TYPES)}.", next_action="Run transform-dataset again.")
        dataset = cls(**arrays)
        if not dataset._is_whole():
            raise DatasetError(f"{path} is damaged: its arrays do not fit together.", next_action="Run transform-dataset again.")
        return dataset

    def _is_whole(self) -> bool:
        offsets = self.offsets
        if len(offsets) != len(self.lines) + 1 or len(self.input_ids) != len(self.loss_mask):
            return False
        return bool(offsets[0] == 0 and offsets[-1] == len(self.input_ids) and (np.diff(offsets) > 0).all())


class DatasetBuilder:
    """Takes examples one by one."""

    def __init__(self) -> None:
        self._ids = array("i")
        self._mask = bytearray()
        self._offsets = array("q", [0])
        self._lines = array("q")

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, line: int, input_ids: Sequence[int], loss_mask: Sequence[bool]) -> None:
        """Append one example."""
        self._ids.extend(input_ids)
        self._mask.extend(loss_mask)
        self._offsets.append(len(self._ids))
        self._lines.append(line)

    def build(self) -> TokenDataset:
        """All examples so far."""
        return TokenDataset(
            np.array(self._ids, dtype=np.int32),
            np.array(self._mask, dtype=np.uint8),
            np.array(self._offsets, dtype=np.int64),
            np.array(self._lines, dtype=np.int64),
        )
