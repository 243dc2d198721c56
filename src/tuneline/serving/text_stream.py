"""Tokens in, text out, piece by piece: never half a character, never a stop sequence or its beginning."""

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"


class TextStream:
    """The text of one answer while it grows."""

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str]) -> None:
        self._decode = decode
        self._stop = stop
        self._ids: list[int] = []
        self.text = ""
        """What has been given out."""
        self.is_stopped = False
        """Whether a stop sequence was found."""

    def add(self, token: int) -> None:
        self._ids.append(token)

    def take(self) -> str:
        """The text that is certain by now and has not been given out yet."""
        return self._give(is_last=False)

    def take_rest(self) -> str:
        """All that has not been given out yet."""
        return self._give(is_last=True)

    def _give(self, *, is_last: bool) -> str:
        if self.is_stopped:
            return ""
        text = self._decode(self._ids)
        found = [place for place in (text.find(stop) for stop in self._stop) if place >= 0]
        if found:
            self.is_stopped = True
            text = text[: min(found)]
        elif not is_last:
            text = text[: self._num_certain(text)]
        piece = text[len(self.text) :]
        self.text += piece
        return piece

    def _num_certain(self, text: str) -> int:
        """A character's bytes may be spread over tokens, and a stop sequence over pieces."""
        certain = text.rstrip(UNFINISHED)
        begun = [length for stop in self._stop for length in range(1, len(stop)) if certain.endswith(stop[:length])]
        return max(len(certain) - max(begun, default=0), len(self.text))
