import resource
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pretraining.tokenizer import CHAT_TEMPLATE
from tuneline.data import chat_template
from tuneline.data.chat_template import ChatTemplate, Marks, TemplateRefusal, sandbox
from tuneline.data.conversation import Turn
from tuneline.data.template_process import CPU_SECONDS, MEMORY_BYTES, TemplateProcess
from tuneline.errors import ModelError

TURNS = (Turn("user", "q"), Turn("assistant", "a"))
VARIABLES: Mapping[str, str] = {"bos_token": "<s>"}

ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.system('touch CANARY') }}",
    "{{ raise_exception.__globals__['__builtins__'] }}",
    "{{ self.__init__.__globals__ }}",
    "{{ lipsum.__globals__['os'].popen('touch CANARY').read() }}",
    "{{ messages.append({}) }}",
    "{{ messages[0].update({'content': 'x'}) }}",
    "{{ messages[0].clear() }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "{{ ('{0.__class__}' | format(messages)).x.y }}",
    "{{ (messages | map(attribute='__class__') | list)[0].__mro__.x }}",
    "{{ namespace.__init__.__globals__.x }}",
    "{{ joiner.__init__.__globals__.x }}",
    "{{ messages|attr('__class__')|attr('__mro__')|first|attr('x') }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os.x }}",
    "{{ open('/etc/passwd').read() }}",
    "{{ __import__('os') }}",
    "{{ strftime_now('%Y') }}",
]
BOMBS = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 'a' * 10 ** 9 }}",
    "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% for i in range(99999) %}{{ 'a' * 9999 }}{% endfor %}",
    "{{ 9 ** (9 ** 9) }}",
    "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ messages | tojson(indent=10 ** 9) }}",
    "{{ '%999999999d' | format(1) }}",
    "{{ ('x' * 5000000) | replace('x', 'y' * 1000) }}",
    "{{ range(99999) | map('string') | list | pprint | length * 'z' * 9999 }}",
]


@pytest.mark.parametrize("template", ESCAPES)
def test_a_template_cannot_get_out_of_the_sandbox(template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = [dict(message) for message in ({"role": "user", "content": "q"},)]
    messages = [dict(message) for message in before]
    try:
        text = sandbox(template, VARIABLES, Marks.random())(messages, add_generation_prompt=False)
    except (TemplateRefusal, ModelError):
        text = ""
    assert "function" not in text
    assert "root:" not in text
    assert "class" not in text
    assert messages == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("template", BOMBS)
def test_a_template_that_never_ends_or_eats_memory_is_stopped(template: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    render = TemplateProcess(template, VARIABLES, Marks.random())
    with pytest.raises((ModelError, TemplateRefusal)):
        render([{"role": "user", "content": "q"}], add_generation_prompt=False)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < CPU_SECONDS + 2


def test_a_template_process_has_a_limit_on_its_memory() -> None:
    render = TemplateProcess("ok", VARIABLES, Marks.random())
    render([], add_generation_prompt=False)
    assert render._process is not None
    [limit] = [line for line in Path(f"/proc/{render._process.pid}/limits").read_text().splitlines() if line.startswith("Max address space")]
    assert MEMORY_BYTES <= int(limit.split()[3]) < MEMORY_BYTES + 10_000


def test_a_template_goes_on_after_a_refusal_and_starts_anew_after_a_stop() -> None:
    template = "{% if messages[0].content == 'long' %}{{ 'a' * 10 ** 9 }}{% elif messages[0].content == 'no' %}{{ raise_exception('no') }}{% endif %}ok"
    render = TemplateProcess(template, VARIABLES, Marks.random())
    for content, error in (("x", None), ("no", TemplateRefusal), ("x", None), ("long", ModelError), ("x", None)):
        messages = [{"role": "user", "content": content}]
        if error:
            with pytest.raises(error):
                render(messages, add_generation_prompt=False)
        else:
            assert render(messages, add_generation_prompt=False) == "ok"


def test_a_long_conversation_may_take_more_memory_than_a_short_one() -> None:
    text = "é😀" * 500_000
    render = TemplateProcess("{{ messages[0].content | trim }}", VARIABLES, Marks.random())
    assert render([{"role": "user", "content": text}], add_generation_prompt=False) == text


def test_ours_is_rendered_here_and_any_other_in_a_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    monkeypatch.setattr(chat_template, "EMBEDDED_MODELS", tmp_path)
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    text, spans = ChatTemplate(CHAT_TEMPLATE, {"bos_token": "<s>"}).render(TURNS)
    assert text == "<s><|user|>\nq<|end_of_turn|><|assistant|>\na<|end_of_turn|>"
    assert [text[start:end] for start, end in spans] == ["a<|end_of_turn|>"]
    with pytest.raises(FileNotFoundError):
        ChatTemplate(CHAT_TEMPLATE + " ", {"bos_token": "<s>"}).render(TURNS)


def test_a_process_gives_what_the_sandbox_here_gives() -> None:
    marks = Marks.random()
    messages = [{"role": turn.role, "content": turn.content} for turn in (*TURNS, Turn("user", "é😀\n\u2028"), Turn("assistant", "日本"))]
    for prompt in (True, False):
        here = sandbox(CHAT_TEMPLATE, VARIABLES, marks)(messages, add_generation_prompt=prompt)
        assert TemplateProcess(CHAT_TEMPLATE, VARIABLES, marks)(messages, add_generation_prompt=prompt) == here


def test_a_refusal_shows_the_words_of_the_template_and_never_those_of_the_data() -> None:
    marks = Marks.random()
    with pytest.raises(TemplateRefusal, match="only two turns"):
        sandbox("{{ raise_exception('only two turns') }}", VARIABLES, marks)([], add_generation_prompt=False)
    with pytest.raises(TemplateRefusal) as raised:
        sandbox("{{ raise_exception('bad: ' + messages[0].content) }}", VARIABLES, marks)([{"content": "canary"}], add_generation_prompt=False)
    assert "canary" not in str(raised.value)


def test_a_template_process_has_no_secrets_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "canary")
    render = TemplateProcess("ok", VARIABLES, Marks.random())
    render([], add_generation_prompt=False)
    assert render._process is not None
    assert b"canary" not in Path(f"/proc/{render._process.pid}/environ").read_bytes()


def test_a_template_process_ends_with_its_owner() -> None:
    render = TemplateProcess("ok", VARIABLES, Marks.random())
    render([], add_generation_prompt=False)
    process = render._process
    assert process is not None
    assert process.poll() is None
    del render
    assert process.poll() is not None
