"""A chat template that came with a model, rendered in a child process with limits on time and memory.

python -m tuneline.data.template_process      one JSON object a line in, one out; the first line in is the template
"""

import contextlib
import json
import math
import os
import resource
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import IO

from tuneline.data.chat_template import Marks, Message, Renderer, TemplateRefusal, sandbox
from tuneline.errors import ModelError

CPU_SECONDS = 1
"""For one conversation, rounded up to the next full second; a template takes some 50 microseconds."""
MEMORY_BYTES = 200_000_000
"""Address space of the child; Python with Jinja takes a fifth of it."""
BYTES_PER_INPUT_BYTE = 24
"""A long conversation may take more: Python holds it in several forms."""
OUTPUT_PER_INPUT = 4
"""A template may write so many characters for each that it reads, and one million more."""


class TemplateProcess:
    """A `Renderer` whose template can do no more than spend its own second."""

    def __init__(self, source: str, variables: Mapping[str, str], marks: Marks) -> None:
        self._first = {"source": source, "variables": dict(variables), "marks": [marks.start, marks.end]}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def __call__(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        with self._lock:
            if self._process is None:
                self._process = self._start()
            answer = self._ask(self._process, {"messages": messages, "add_generation_prompt": add_generation_prompt})
        if answer["kind"] == "text":
            return answer["text"]
        if answer["kind"] == "refusal":
            raise TemplateRefusal(answer["text"])
        raise ModelError(answer["text"], next_action="Use the chat template of the model's publisher.")

    def _start(self) -> "subprocess.Popen[str]":
        # A template that breaks out finds none of this process's secrets in its environment.
        passed = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        process = subprocess.Popen(
            [sys.executable, "-m", "tuneline.data.template_process"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="ascii", env={**passed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
        weakref.finalize(self, _end, process)
        self._send(process, self._first)
        return process

    def _ask(self, process: "subprocess.Popen[str]", request: object) -> dict[str, str]:
        self._send(process, request)
        line = _pipe(process.stdout).readline()
        if line.endswith("\n"):
            answer: dict[str, str] = json.loads(line)
            return answer
        self._process = None
        _end(process)
        limits = f"{CPU_SECONDS + 1} seconds or {MEMORY_BYTES // 1_000_000} MB"
        return {"kind": "failure", "text": f"the chat template needed more than {limits} for one conversation, and was stopped."}

    def _send(self, process: "subprocess.Popen[str]", message: object) -> None:
        requests = _pipe(process.stdin)
        with contextlib.suppress(BrokenPipeError):  # it is dead, which the missing answer will tell
            requests.write(json.dumps(message) + "\n")
            requests.flush()


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise RuntimeError("the child process was started without pipes")
    return stream


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def _limit(num_input_bytes: int) -> None:
    """Allow this process so much more from now on."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = math.ceil(usage.ru_utime + usage.ru_stime) + CPU_SECONDS
    for kind, value in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, MEMORY_BYTES + BYTES_PER_INPUT_BYTE * num_input_bytes)):
        _, most = resource.getrlimit(kind)
        resource.setrlimit(kind, (value if most == resource.RLIM_INFINITY else min(value, most), most))


def _serve(requests: IO[str], answers: IO[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; its end is this process's end
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    first = requests.readline()
    _limit(len(first))
    setup = json.loads(first)
    render: Renderer | None = None
    for line in requests:
        _limit(len(line))
        request = json.loads(line)
        try:
            render = render or sandbox(setup["source"], setup["variables"], Marks(*setup["marks"]))
            text = render(request["messages"], add_generation_prompt=request["add_generation_prompt"])
            if len(text) > OUTPUT_PER_INPUT * len(line) + 1_000_000:
                raise ModelError("the chat template wrote far more than the conversation has, and was stopped.")
            answer = {"kind": "text", "text": text}
        except TemplateRefusal as error:
            answer = {"kind": "refusal", "text": str(error)}
        except ModelError as error:
            answer = {"kind": "failure", "text": str(error)}
        except MemoryError:
            return
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve(sys.stdin, sys.stdout)
