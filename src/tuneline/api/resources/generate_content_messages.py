"""Gemini's `generateContent` and the OpenAI chat request that the model's server understands: messages, and both ways between the two. Pure."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, FiniteFloat

from tuneline.api.faults import invalid
from tuneline.api.store import Body
from tuneline.api.wire import Int32, Labels, Message, Struct
from tuneline.local.run_record import now

FINISH_REASONS = {"stop": "STOP", "length": "MAX_TOKENS"}
TEXT = "text/plain"


class Part(Message):
    """A piece of a content. Only text is understood here."""

    text: str | None = None
    thought: bool = False
    inline_data: Struct | None = None
    file_data: Struct | None = None
    function_call: Struct | None = None
    function_response: Struct | None = None
    executable_code: Struct | None = None
    code_execution_result: Struct | None = None


class Content(Message):
    """One turn."""

    role: str = ""
    parts: list[Part] = []


class GenerationConfig(Message):
    """How the answer is made."""

    temperature: FiniteFloat | None = None
    top_p: FiniteFloat | None = None
    top_k: Annotated[FiniteFloat, Field(ge=0, lt=2**31)] | None = None
    candidate_count: Int32 | None = None
    max_output_tokens: Int32 | None = None
    stop_sequences: list[str] = []
    seed: Int32 | None = None
    response_mime_type: str = ""
    response_schema: Struct | None = None
    response_json_schema: Any = None
    response_logprobs: bool = False
    logprobs: Int32 | None = None
    presence_penalty: FiniteFloat | None = None
    frequency_penalty: FiniteFloat | None = None
    response_modalities: list[str | int] = []
    audio_timestamp: bool = False
    media_resolution: str | int | None = None
    routing_config: Struct | None = None
    speech_config: Struct | None = None
    thinking_config: Struct | None = None
    image_config: Struct | None = None


class GenerateContentRequest(Message):
    """Body of `:generateContent` and `:streamGenerateContent`."""

    model: str = ""
    contents: list[Content]
    system_instruction: Content | None = None
    generation_config: GenerationConfig = GenerationConfig()
    safety_settings: list[Struct] = []
    """Accepted and without effect: no safety model runs here."""
    labels: Labels = {}
    tools: list[Struct] = []
    tool_config: Struct | None = None
    cached_content: str = ""
    model_armor_config: Struct | None = None


def messages_of(contents: list[Content], system: Content | None, problems: list[str]) -> list[dict[str, str]]:
    """The turns as OpenAI messages. Neighbours of one role become one turn, as Gemini's clients may send them."""
    turns = [{"role": "system", "content": _text(system, "systemInstruction", problems)}] if system else []
    for index, content in enumerate(contents):
        if content.role not in ("", "user", "model"):
            problems.append(f"contents[{index}].role: found {content.role!r}; expected user or model.")
        role = "assistant" if content.role == "model" else "user"
        text = _text(content, f"contents[{index}]", problems)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += f"\n{text}"
        else:
            turns.append({"role": role, "content": text})
    if not contents:
        problems.append("contents: found an empty list; expected at least one content.")
    return turns


def chat_request(request: GenerateContentRequest, *, stream: bool) -> Body:
    """The OpenAI chat request. Raises a Fault that names everything that cannot be had."""
    problems: list[str] = []
    config = request.generation_config
    messages = messages_of(request.contents, request.system_instruction, problems)
    missing = {
        "tools": request.tools,
        "cachedContent": request.cached_content,
        "generationConfig.responseSchema": config.response_schema,
        "generationConfig.responseJsonSchema": config.response_json_schema,
        "generationConfig.responseMimeType": config.response_mime_type not in ("", TEXT),
        "generationConfig.responseLogprobs": config.response_logprobs,
        "generationConfig.logprobs": config.logprobs,
        "generationConfig.presencePenalty": config.presence_penalty,
        "generationConfig.frequencyPenalty": config.frequency_penalty,
        "generationConfig.responseModalities": [kind for kind in config.response_modalities if kind not in ("TEXT", 1)],
    }
    problems += [f"{name}: not supported; the answer is plain text." for name, value in missing.items() if value]
    if config.top_k is not None and config.top_k != int(config.top_k):
        problems.append(f"generationConfig.topK: found {config.top_k:g}; expected a whole number.")
    if problems:
        raise invalid(*problems)
    given = {
        "temperature": config.temperature,
        "top_p": config.top_p,
        "top_k": None if config.top_k is None else int(config.top_k),
        "max_tokens": config.max_output_tokens,
        "n": config.candidate_count,
        "seed": config.seed,
        "stop": config.stop_sequences or None,
    }
    streaming = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    return {"messages": messages, **{name: value for name, value in given.items() if value is not None}, **streaming}


def response(answer: Mapping[str, Any], model: str) -> Body:
    """A GenerateContentResponse out of a whole OpenAI answer, or out of an event of a streamed one."""
    usage = answer.get("usage")
    return {
        "candidates": [_candidate(choice) for choice in answer["choices"]],
        **({"usageMetadata": _usage(usage)} if usage else {}),
        "modelVersion": model,
        "responseId": answer["id"],
        "createTime": now(),
    }


def _candidate(choice: Mapping[str, Any]) -> Body:
    text = choice.get("message", choice.get("delta", {})).get("content", "")
    reason = choice.get("finish_reason")
    return {
        "index": choice["index"],
        "content": {"role": "model", "parts": [{"text": text}] if text or not reason else []},
        **({"finishReason": FINISH_REASONS.get(reason, "OTHER")} if reason else {}),
    }


def _usage(usage: Mapping[str, int]) -> Body:
    return {"promptTokenCount": usage["prompt_tokens"], "candidatesTokenCount": usage["completion_tokens"], "totalTokenCount": usage["total_tokens"]}


def _text(content: Content, where: str, problems: list[str]) -> str:
    texts = [part.text for part in content.parts if part.text is not None]
    if len(texts) < len(content.parts) or not any(texts):
        problems.append(f"{where}.parts: expected text that is not empty, and nothing else.")
    return "".join(texts)
