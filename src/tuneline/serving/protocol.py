"""Vertex predict requests -> prompts, and answers -> predictions, in the shapes of the hosted text, code and chat models.

An instance is `{"prefix"}` (code), `{"content"}` (text), `{"messages"}` (chat) or `{"prompt"}` (tuned open models); the last one may
carry its own sampling parameters. All instances are answered, in order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tuneline.data.conversation import Turn
from tuneline.errors import UserError
from tuneline.serving.prompts import Completion, Prompt, Sampling
from tuneline.serving.request_fields import MAX_ANSWERS, Fields, read_sampling, read_turns

FORMS = ("prefix", "content", "messages", "prompt")
CHAT_COMPLETIONS = "chatCompletions"
REQUEST_FORMAT = "@requestFormat"


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One element of `instances`."""

    form: Literal["text", "chat", "prompt", "raw prompt"]
    prompt: Prompt


def chat_request(body: object) -> tuple[object, bool] | None:
    """The OpenAI chat request that a predict body carries, and whether its answer belongs under `predictions`; or nothing.

    The marker stands in the body, or in its only instance.
    """
    if not isinstance(body, dict):
        return None
    if body.get(REQUEST_FORMAT) == CHAT_COMPLETIONS:
        return {key: value for key, value in body.items() if key != REQUEST_FORMAT}, False
    instances = body.get("instances")
    if isinstance(instances, list) and len(instances) == 1 and isinstance(instances[0], dict) and instances[0].get(REQUEST_FORMAT) == CHAT_COMPLETIONS:
        return {key: value for key, value in instances[0].items() if key != REQUEST_FORMAT}, True
    return None


def parse(body: object) -> list[Instance]:
    """The instances of a predict request. Raises one `UserError` with every problem."""
    problems: list[str] = []
    fields = Fields(body, "", problems)
    values = fields.list("instances")
    _, given = fields.take("parameters")
    fields.ignore("labels")
    fields.finish()
    parameters = Fields({} if given is None else given, "parameters", problems)
    sampling, num_answers = read_sampling(parameters, Sampling()), _read_num_answers(parameters)
    _refuse_what_is_missing(parameters)
    parameters.finish()
    instances = [_read_instance(value, f"instances[{index}]", sampling, num_answers, problems) for index, value in enumerate(values)]
    several = [item.prompt for item in instances if len(instances) > 1 and item.form != "chat" and item.prompt.num_answers > 1]
    problems += [f"{prompt.where}: its {prompt.num_answers} answers could not be told from those of others; send it alone." for prompt in several]
    if problems:
        raise UserError(*problems)
    return instances


def response(instances: Sequence[Instance], answers: Sequence[Sequence[Completion]]) -> dict[str, object]:
    """The predict response; `answers` holds each instance's answers."""
    predictions: list[object] = []
    for instance, completions in zip(instances, answers, strict=True):
        if instance.form == "chat":
            predictions.append(
                {
                    "candidates": [{"author": "bot", "content": completion.text} for completion in completions],
                    "safetyAttributes": [_safety() for _ in completions],
                }
            )
        elif instance.form == "text":
            predictions += [{"content": completion.text, "safetyAttributes": _safety()} for completion in completions]
        elif instance.form == "prompt":
            asked = instance.prompt.turns[-1].content.strip()
            predictions += [f"Prompt:\n{asked}\nOutput:\n{completion.text.strip(chr(10))}" for completion in completions]
        else:
            predictions += [completion.text for completion in completions]
    flat = [completion for completions in answers for completion in completions]
    prompt_tokens = sum(completions[0].prompt_tokens for completions in answers)
    output_tokens = sum(completion.output_tokens for completion in flat)
    return {
        "predictions": predictions,
        **({"output_token_counts": [completion.output_tokens for completion in flat]} if any(i.form == "raw prompt" for i in instances) else {}),
        "metadata": {"tokenMetadata": {"inputTokenCount": {"totalTokens": prompt_tokens}, "outputTokenCount": {"totalTokens": output_tokens}}},
    }


def _read_instance(value: object, where: str, sampling: Sampling, num_answers: int, problems: list[str]) -> Instance:
    fields = Fields(value, where, problems)
    forms = [name for name in FORMS if fields.has(name)]
    if len(forms) != 1:
        if isinstance(value, dict):
            fields.report("", f"found {' and '.join(forms) or 'nothing to answer'}; expected exactly one of {', '.join(FORMS)}.")
            fields.ignore(*FORMS)
            fields.finish()
        return Instance(form="text", prompt=Prompt(where=where, turns=(), sampling=sampling))
    name = forms[0]
    form: Literal["text", "chat", "prompt", "raw prompt"] = "text"
    if name == "messages":
        form = "chat"
        context = fields.text("context") if fields.take("context")[1] else ""
        turns = read_turns(fields.list("messages"), fields.place("messages"), context, problems)
        fields.refuse("Send them as earlier messages.", "examples")
    else:
        turns = (Turn("user", fields.text(name)),)
        fields.refuse("Models are tuned to continue a prefix.", "suffix")
    if name == "prompt":
        sampling = read_sampling(fields, sampling)
        form = "raw prompt" if fields.flag("raw_response") else "prompt"
        num_answers = _read_num_answers(fields) if fields.has("n") else num_answers
        _refuse_what_is_missing(fields)
    fields.finish()
    return Instance(form=form, prompt=Prompt(where=where, turns=turns, sampling=sampling, num_answers=num_answers))


def _read_num_answers(fields: Fields) -> int:
    return fields.whole_number("candidateCount", "n", low=1, high=MAX_ANSWERS) or 1


def _refuse_what_is_missing(fields: Fields) -> None:
    fields.refuse("", "echo", "logprobs", "logitBias", "presencePenalty", "frequencyPenalty", "presence_penalty", "frequency_penalty", "dynamic-lora")
    fields.refuse("", "groundingConfig", "stream", "ignore_eos", "use_beam_search")


def _safety() -> dict[str, object]:
    """No safety model runs here; the Google SDK cannot read an answer without these attributes."""
    return {"blocked": False, "categories": [], "scores": []}
