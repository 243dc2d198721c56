"""OpenAI requests (chat completions, completions) -> prompts, and answers -> bodies and server-sent events."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tuneline.data.conversation import Turn
from tuneline.errors import NotFoundError, UserError
from tuneline.serving.prompts import Completion, Prompt, Sampling
from tuneline.serving.request_fields import MAX_ANSWERS, Fields, read_sampling, read_turns

Kind = Literal["chat.completion", "text_completion"]


@dataclass(frozen=True, kw_only=True)
class CompletionRequest:
    """What the client asks for, and what its answers are called."""

    kind: Kind
    prompts: tuple[Prompt, ...]
    stream: bool
    include_usage: bool
    model: str

    def body(self, request_id: str, answers: Sequence[Sequence[Completion]]) -> dict[str, object]:
        """The whole answer; `answers` holds each prompt's answers."""
        flat = [completion for completions in answers for completion in completions]
        choices = [self._choice(index, completion.text, completion.finish_reason, key="message") for index, completion in enumerate(flat)]
        return self._envelope(request_id, choices) | {"usage": usage(answers)}

    def event(self, request_id: str, index: int, text: str, finish_reason: str | None, *, is_first: bool = False) -> dict[str, object]:
        """One piece of a streamed answer."""
        choice = self._choice(index, text, finish_reason, key="delta")
        if self.kind == "chat.completion" and not is_first:
            choice["delta"] = {"content": text} if text else {}
        return self._envelope(request_id, [choice], streamed=True)

    def last_event(self, request_id: str, answers: Sequence[Sequence[Completion]]) -> dict[str, object]:
        """The event that closes a stream whose client wants to know its usage."""
        return self._envelope(request_id, [], streamed=True) | {"usage": usage(answers)}

    def _choice(self, index: int, text: str, finish_reason: str | None, *, key: str) -> dict[str, object]:
        content = {key: {"role": "assistant", "content": text}} if self.kind == "chat.completion" else {"text": text}
        return {"index": index, **content, "finish_reason": finish_reason, "logprobs": None}

    def _envelope(self, request_id: str, choices: Sequence[object], *, streamed: bool = False) -> dict[str, object]:
        name = "chat.completion.chunk" if streamed and self.kind == "chat.completion" else self.kind
        return {"id": request_id, "object": name, "created": int(time.time()), "model": self.model, "choices": list(choices)}


def parse(body: object, kind: Kind, model_names: Sequence[str]) -> CompletionRequest:
    """The request. Raises one `UserError` with every problem, `NotFoundError` for another model's name."""
    problems: list[str] = []
    fields = Fields(body, "", problems)
    _, model = fields.take("model")
    sampling = read_sampling(fields, Sampling())
    num_answers = fields.whole_number("n", low=1, high=MAX_ANSWERS) or 1
    if kind == "chat.completion":
        prompts = [Prompt(where="messages", turns=read_turns(fields.list("messages"), "messages", "", problems), sampling=sampling, num_answers=num_answers)]
    else:
        texts = fields.texts("prompt") or ()
        prompts = [Prompt(where="prompt", turns=(Turn("user", text),), sampling=sampling, num_answers=num_answers) for text in texts]
        if not texts and not fields.has("prompt"):
            fields.report("prompt", "missing; expected text.")
    stream = fields.flag("stream")
    options = Fields(fields.take("stream_options")[1] or {}, "stream_options", problems)
    include_usage = options.flag("include_usage")
    options.finish()
    _, form = fields.take("response_format")
    if form not in (None, {"type": "text"}):
        fields.report("response_format", "not supported. Only text can be had.")
    fields.refuse("", "tools", "functions", "logprobs", "top_logprobs", "logit_bias", "presence_penalty", "frequency_penalty", "echo", "suffix", "audio")
    fields.ignore("user", "metadata", "store", "parallel_tool_calls", "tool_choice", "service_tier", "best_of", "safety_identifier", "prompt_cache_key")
    fields.finish()
    if problems:
        raise UserError(*problems)
    if model and model not in model_names:
        raise NotFoundError(f"model: this endpoint serves {model_names[0]!r}; leave 'model' empty or give one of {', '.join(model_names)}.")
    return CompletionRequest(kind=kind, prompts=tuple(prompts), stream=stream, include_usage=include_usage, model=model_names[0])


def usage(answers: Sequence[Sequence[Completion]]) -> dict[str, int]:
    """Token counts; a prompt with several answers counts once."""
    prompt_tokens = sum(completions[0].prompt_tokens for completions in answers)
    output_tokens = sum(completion.output_tokens for completions in answers for completion in completions)
    return {"prompt_tokens": prompt_tokens, "completion_tokens": output_tokens, "total_tokens": prompt_tokens + output_tokens}
