from collections.abc import Sequence

import pytest

from tuneline.serving.text_stream import TextStream


def as_bytes(ids: Sequence[int]) -> str:
    return bytes(ids).decode(errors="replace")


def pieces(text: str, stop: Sequence[str] = ()) -> tuple[list[str], TextStream]:
    stream = TextStream(as_bytes, stop)
    taken = []
    for token in text.encode():
        stream.add(token)
        taken.append(stream.take())
    taken.append(stream.take_rest())
    return taken, stream


def test_text_comes_as_soon_as_it_is_certain() -> None:
    assert pieces("abc")[0] == ["a", "b", "c", ""]


def test_a_character_is_never_cut_in_half() -> None:
    assert pieces("aé日")[0] == ["a", "", "é", "", "", "日", ""]


def test_what_might_become_a_stop_sequence_is_held_back_and_given_when_it_did_not() -> None:
    taken, stream = pieces("a\n\nb", ["\n\nclass"])
    assert taken == ["a", "", "", "\n\nb", ""]
    assert not stream.is_stopped


def test_the_earliest_stop_sequence_ends_the_text_and_is_not_part_of_it() -> None:
    taken, stream = pieces("one END two STOP", ["STOP", "END"])
    assert "".join(taken) == "one "
    assert stream.is_stopped


def test_the_longest_beginning_of_any_stop_sequence_is_held_back() -> None:
    taken, _ = pieces("xaab", ["b!", "aabc"])
    assert taken == ["x", "", "", "", "aab"]


def test_a_text_that_ends_within_a_character_shows_that() -> None:
    stream = TextStream(as_bytes, [])
    stream.add(0xE6)
    assert stream.take() == ""
    assert stream.take_rest() == "\ufffd"


@pytest.mark.parametrize("stop", [["\n"], ["ab"], ["b", "ab"], ["é"]])
def test_pieces_together_are_the_text_up_to_the_stop_sequence(stop: list[str]) -> None:
    text = "aéab\nb"
    assert "".join(pieces(text, stop)[0]) == text[: min(text.find(s) for s in stop if s in text)]
