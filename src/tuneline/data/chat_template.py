"""Renders a conversation with a Hugging Face chat template, in a sandbox, and marks what the assistant writes.

A template is code that came with a model. The embedded model's runs here; any other runs in a child process with limits
(`template_process`), because a sandbox stops escapes but not endless loops or endless text.
"""

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tuneline.data.base_model import EMBEDDED_MODELS
from tuneline.data.conversation import Turn
from tuneline.data.problems import ExampleError
from tuneline.errors import ModelError

MAX_TEMPLATE_BYTES = 100_000
GENERATION_BLOCK = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")

Message = Mapping[str, str]


class TemplateRefusal(ExampleError):
    """The template does not take this conversation. The message holds no text of the data."""

    def __init__(self, message: str) -> None:
        super().__init__("template-refuses", message)


class Renderer(Protocol):
    """Renders messages; the marks stand around what the assistant writes."""

    def __call__(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str: ...


@dataclass(frozen=True)
class Marks:
    """Texts that stand around a `{% generation %}` block; random, so that no data can hold them."""

    start: str
    end: str

    @classmethod
    def random(cls) -> "Marks":
        token = secrets.token_hex(16)
        return cls(f"<{token}+>", f"<{token}->")


class GenerationExtension(Extension):
    """`{% generation %}...{% endgeneration %}`: what the assistant writes."""

    marks: Marks

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Callable[[], str]) -> str:
        return f"{self.marks.start}{caller()}{self.marks.end}"


class _Refused(jinja2.TemplateError):
    """Raised by the template itself."""


def sandbox(source: str, variables: Mapping[str, str], marks: Marks) -> Renderer:
    """Compile a template in this process. Raises ModelError when it is no template."""
    marking = type("MarkingExtension", (GenerationExtension,), {"tags": {"generation"}, "marks": marks})
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[marking, loopcontrols])
    environment.filters["tojson"] = _tojson
    # No `strftime_now`: the same data must give the same tokens tomorrow. Templates fall back to a fixed date.
    environment.globals["raise_exception"] = _refuse
    try:
        template = environment.from_string(source)
    except (jinja2.TemplateError, RecursionError, ValueError) as error:
        raise ModelError(f"the chat template is not valid Jinja: {type(error).__name__} at line {getattr(error, 'lineno', '?')}.") from None

    def render(messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        try:
            return template.render(messages=messages, tools=None, documents=None, add_generation_prompt=add_generation_prompt, **variables)
        except _Refused as error:
            # Shown only when the template's author wrote it word for word: a message made from parts could quote the data.
            words = str(error) if str(error) and str(error) in source else "no reason that can be shown"
            raise TemplateRefusal(f"the base model's chat template refuses this conversation ({words}).") from None
        except MemoryError:
            raise
        except Exception as error:  # whatever the template's own expressions raise: TypeError, KeyError, SecurityError, ...
            raise TemplateRefusal(f"the base model's chat template fails on this conversation ({type(error).__name__}).") from None

    return render


def _refuse(message: str) -> None:
    raise _Refused(message)


def _tojson(value: object, *, ensure_ascii: bool = False, indent: int | None = None, separators: tuple[str, str] | None = None, sort_keys: bool = False) -> str:
    """JSON without the HTML escapes of Jinja's own filter."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def is_trusted(source: str) -> bool:
    """Whether the template is one of ours, wherever its copy lies."""
    return any(path.read_text(encoding="utf-8") == source for path in EMBEDDED_MODELS.glob("*/chat_template.jinja"))


class ChatTemplate:
    """One model's template: conversations in, text and the spans that are learned out."""

    def __init__(self, source: str, variables: Mapping[str, str]) -> None:
        if len(source.encode()) > MAX_TEMPLATE_BYTES:
            raise ModelError(f"the chat template has {len(source.encode()):,} bytes; expected at most {MAX_TEMPLATE_BYTES:,}. Use the model's own template.")
        self.marks_spans = bool(GENERATION_BLOCK.search(source))
        """Whether the template itself says what the assistant writes."""
        self._marks = Marks.random()
        self._render: Renderer
        if is_trusted(source):
            self._render = sandbox(source, variables, self._marks)
        else:
            from tuneline.data.template_process import TemplateProcess

            self._render = TemplateProcess(source, variables, self._marks)

    def render(self, turns: Sequence[Turn], *, add_generation_prompt: bool = False) -> tuple[str, list[tuple[int, int]]]:
        """The text, and where in it the template's `{% generation %}` blocks lie."""
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        marked = self._render(messages, add_generation_prompt=add_generation_prompt)
        text, *blocks = marked.split(self._marks.start)
        spans = []
        for block in blocks:
            inside, _, after = block.partition(self._marks.end)
            spans.append((len(text), len(text) + len(inside)))
            text += inside + after
        return text, spans
