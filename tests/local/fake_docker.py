"""A container engine for tests: a daemon that owns the processes of its "containers", and the command line that asks it.

python fake_docker.py STATE serve            the daemon
python fake_docker.py STATE run --name ...   the command line, as `docker` and `podman` have it

A container is a process of this machine with the environment and folder that it is given. In the folder STATE lie `info.json`, `images.json`
(reference -> id) and what a test may put there: `refusal` (what `run` says instead of running), `down` (the daemon does not answer),
`creation_seconds`. Every call is kept in `calls.jsonl`.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

KEPT = ("HOME", "PATH", "LANG")


class Daemon:
    def __init__(self, state: Path) -> None:
        self.state = state
        self.guard = threading.Lock()
        self.containers: dict[str, tuple[str, subprocess.Popen[bytes] | None]] = {}

    def serve(self) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.state / "socket"))
            listener.listen()
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection: socket.socket) -> None:
        with connection:
            message, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 2)
            order = json.loads(message)
            try:
                answer = getattr(self, order.pop("do"))(**order, **({"connection": connection, "output": descriptors[0]} if descriptors else {}))
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps(answer).encode())

    def run(self, name: str, label: str, command: list[str], environment: dict[str, str], folder: str, connection: socket.socket, output: int) -> object:
        seconds = self.state / "creation_seconds"
        if seconds.exists():
            (self.state / "creating").touch()
            time.sleep(float(seconds.read_text()))
        with self.guard:
            if name in self.containers:
                return {"code": 125, "said": f"the name {name} is in use"}
            self.containers[name] = (label, None)
        if _is_closed(connection):  # nobody is there to start it
            return None
        with self.guard:
            process = subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=output, start_new_session=True)
            self.containers[name] = (label, process)
        code = process.wait()
        return {"code": code if code >= 0 else 128 - code}

    def kill(self, name: str, number: int) -> object:
        with self.guard:
            process = self.containers.get(name, ("", None))[1]
            if process is None or process.poll() is not None:
                return {"code": 1}
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number) if number != signal.SIGKILL else os.killpg(process.pid, number)
            return {"code": 0}

    def rm(self, name: str) -> object:
        self.kill(name, signal.SIGKILL)
        with self.guard:
            self.containers.pop(name, None)
        return {"code": 0}

    def ps(self, label: str) -> object:
        with self.guard:
            return {"names": [name for name, (its, _) in self.containers.items() if label in (its, "")]}


def ask(state: Path, order: dict[str, object], descriptors: tuple[int, ...] = ()) -> dict[str, object]:
    """The daemon's answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(state / "socket"))
        socket.send_fds(connection, [json.dumps(order).encode()], list(descriptors))
        answer: dict[str, object] = json.loads(connection.recv(1 << 20))
        return answer


def main(state: Path, arguments: list[str]) -> int:
    with (state / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps({"arguments": arguments, "environment": dict(os.environ)}) + "\n")
    if (state / "down").exists():
        return _fail("Cannot connect to the daemon.")
    images = json.loads((state / "images.json").read_text())
    match arguments:
        case ["version", *_]:
            print("1.0")
        case ["info", *_]:
            print((state / "info.json").read_text())
        case ["image", "inspect", "--format", "{{.Id}}", reference]:
            known = images | {identifier: identifier for identifier in images.values()}
            if reference not in known:
                return _fail(f"Error: No such image: {reference}")
            print(known[reference])
        case ["pull", *_, reference]:
            remote = state / "registry.json"
            if not remote.exists() or reference not in (found := json.loads(remote.read_text())):
                return _fail(f"Error: manifest for {reference} not found")
            (state / "images.json").write_text(json.dumps(images | {reference: found[reference]}))
        case ["ps", *_, selection]:
            names = ask(state, {"do": "ps", "label": selection.removeprefix("label=")})["names"]
            assert isinstance(names, list)
            print(*names, sep="\n")
        case ["kill", *names]:
            return max(int(str(ask(state, {"do": "kill", "name": name, "number": signal.SIGKILL})["code"])) for name in names)
        case ["rm", "--force", *names]:
            for name in names:
                ask(state, {"do": "rm", "name": name})
        case ["run", *_]:
            return _run(state, arguments[1:])
        case _:
            return _fail(f"unknown command {arguments}")
    return 0


def _run(state: Path, arguments: list[str]) -> int:
    refusal = state / "refusal"
    if refusal.exists():
        print(refusal.read_text(), "\nRun 'docker run --help' for more information", file=sys.stderr)
        return 125
    given, environment, rest = {}, {key: os.environ[key] for key in ("PATH",)}, list(arguments)
    while rest[0].startswith("--"):
        flag = rest.pop(0)
        if flag in ("--read-only", "--init"):
            continue
        value = rest.pop(0)
        given[flag] = value
        if flag == "--env":
            key, equals, text = value.partition("=")
            environment[key] = text if equals else os.environ[key]
    command = [given["--entrypoint"], *rest[1:]]
    if command[0] == "python":
        command[0] = sys.executable
    if shutil.which(command[0]) is None:
        return _fail(f"exec {command[0]}: no such file", 127)

    def hand_on(number: int, _frame: object) -> None:
        ask(state, {"do": "kill", "name": given["--name"], "number": number})

    signal.signal(signal.SIGTERM, hand_on)
    order = {"name": given["--name"], "label": given["--label"], "command": command, "environment": environment, "folder": given["--workdir"]}
    answer = ask(state, {"do": "run", **order}, (1,))
    if "said" in answer:
        print(answer["said"], file=sys.stderr)
    return int(str(answer["code"]))


def _fail(words: str, code: int = 1) -> int:
    print(words, file=sys.stderr)
    return code


def _is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    finally:
        connection.setblocking(True)


if __name__ == "__main__":
    if sys.argv[2] == "serve":
        Daemon(Path(sys.argv[1])).serve()
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
