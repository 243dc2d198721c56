import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.modeling.tiny_model import byte_tokenizer
from tuneline.data.conversation import Turn
from tuneline.data.tokens import load_tokenizer
from tuneline.errors import InfrastructureError, UserError
from tuneline.serving.engine import Deliver, Engine, Generation
from tuneline.serving.predictor import Predictor, ReadyPrompt
from tuneline.serving.prompts import Completion, Prompt, Sampling

A = byte_tokenizer().encode("a").ids[0]


class Scripted:
    """An engine that says what it is told to."""

    vocabulary_size = 263
    takes_seeds = False
    is_healthy = True

    def __init__(self, *script: tuple[int | None, str | None]) -> None:
        self.script = script
        self.cancelled: list[Generation] = []

    def submit(self, prompt: Sequence[int], max_tokens: int, sampling: Sampling, deliver: Deliver) -> Generation:
        for token, end in self.script:
            deliver(token, end)  # type: ignore[arg-type]
        return Generation(request_id="1", prompt=prompt, max_tokens=max_tokens, sampling=sampling, deliver=deliver)

    def cancel(self, generation: Generation) -> None:
        self.cancelled.append(generation)

    def close(self) -> None:
        pass


def predictor(engine: Engine, folder: Path) -> Predictor:
    return Predictor(engine, load_tokenizer(folder), 256)


def prompt(text: str = "a", sampling: Sampling = Sampling()) -> Prompt:
    return Prompt(where="here", turns=(Turn("user", text),), sampling=sampling)


def problems(engine: Engine, folder: Path, *prompts: Prompt) -> str:
    with pytest.raises(UserError) as error:
        predictor(engine, folder).prepare(prompts)
    return str(error.value)


def test_a_seed_is_refused_only_where_something_is_drawn_and_the_engine_has_none(model_folder: Path) -> None:
    engine = Scripted()
    drawn = prompt(sampling=Sampling(seed=3, temperature=0.5))
    assert "here: a seed is not supported with a temperature above 0" in problems(engine, model_folder, drawn)
    assert len(predictor(engine, model_folder).prepare([prompt(sampling=Sampling(seed=3)), prompt(sampling=Sampling(temperature=0.5))])) == 2
    engine.takes_seeds = True
    assert predictor(engine, model_folder).prepare([drawn])[0].sampling.seed == 3


def test_answers_of_one_seed_are_no_copies() -> None:
    ready = ReadyPrompt(ids=[1], max_tokens=2, sampling=Sampling(seed=3))
    assert [ready.for_answer(index).sampling.seed for index in range(3)] == [3, 4, 5]
    unseeded = ReadyPrompt(ids=[1], max_tokens=2, sampling=Sampling())
    assert unseeded.for_answer(2) is unseeded


def test_a_token_that_the_model_does_not_know_never_reaches_it(model_folder: Path) -> None:
    engine = Scripted()
    largest = max(load_tokenizer(model_folder).encode_prompt([Turn("user", "a")]))
    engine.vocabulary_size = largest
    assert f"here: the prompt has the token {largest}; the model knows {largest} tokens" in problems(engine, model_folder, prompt())
    engine.vocabulary_size = largest + 1
    assert max(predictor(engine, model_folder).prepare([prompt()])[0].ids) == largest


def answer(engine: Engine, folder: Path) -> Completion:
    served = predictor(engine, folder)
    return asyncio.run(served.complete(served.prepare([prompt()])[0]))


def test_an_end_may_come_without_a_token(model_folder: Path) -> None:
    engine = Scripted((A, None), (A, None), (None, "length"))
    num_prompt = len(load_tokenizer(model_folder).encode_prompt([Turn("user", "a")]))
    assert answer(engine, model_folder) == Completion(text="aa", finish_reason="length", prompt_tokens=num_prompt, output_tokens=2)
    assert len(engine.cancelled) == 1


def test_the_token_that_ends_an_answer_counts_and_is_no_text(model_folder: Path) -> None:
    completion = answer(Scripted((A, None), (A, "stop")), model_folder)
    assert (completion.text, completion.output_tokens) == ("a", 2)
    completion = answer(Scripted((A, None), (A, "length")), model_folder)
    assert (completion.text, completion.output_tokens) == ("aa", 2)


def test_a_lost_answer_is_an_error(model_folder: Path) -> None:
    with pytest.raises(InfrastructureError, match="the answer was lost"):
        answer(Scripted((9, None), (None, "failed")), model_folder)


def test_a_model_that_cannot_generate_is_not_served(model_folder: Path) -> None:
    with pytest.raises(InfrastructureError, match="loads but cannot generate"):
        predictor(Scripted((None, "failed")), model_folder).warm_up()
    predictor(Scripted((9, None), (9, "length")), model_folder).warm_up()
