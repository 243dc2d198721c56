"""Does the tuning service keep its promises when it is killed? Kills at random moments, while clients create, look at and cancel jobs.

    python -m benchmarks.service_kills [--kills 50] [--seed 0] [--max-running 2] [--clients 4] [--tuning-jobs 1] [--json FILE]

The service is `tuneline serve`, a process of its own, and dies by SIGKILL: at any moment, while it starts, and in the middle of creating,
cancelling, beginning and finishing jobs. Sometimes the jobs' processes die with it, as when the machine loses its power. Then it is
started again. At the end every promise is checked (`benchmarks.service_promises`). Exits with 1 when one is broken.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.service_process import PLACE, ServiceProcess, Unanswered, real_job, tiny_job
from benchmarks.service_promises import Evidence, Wish, broken_promises
from tuneline.api.jobs import JOB, OUTCOME, PROCESS, JobState

KINDS = ("any moment", "starting", "creating", "cancelling", "beginning", "finishing", "power")
"""The moments of kills, each as often as the others."""
FILES = {"beginning": JOB, "finishing": OUTCOME}
"""What appears at that moment in a job's folder."""
JOBS = f"/v1/{PLACE}/pipelineJobs"
OPEN_JOBS = 3
"""Of one client: more would only wait."""
PATIENCE_SECONDS = 20.0
ENDS = tuple(f"PIPELINE_STATE_{state}" for state in JobState if state.has_ended)


@dataclass
class Doing:
    """What a request is about, while it is under way."""

    begun: threading.Event = field(default_factory=threading.Event)
    seconds: float = 0.01
    """How long the last one took."""
    unanswered: int = 0


class Client(threading.Thread):
    """Creates jobs, looks at them, cancels some. Only what is answered counts for it; what is not it asks again, or never mentions again."""

    def __init__(self, name: str, service: ServiceProcess, is_up: threading.Event, doing: dict[str, Doing], seed: str) -> None:
        super().__init__(name=name, daemon=True)
        self.wishes: list[Wish] = []
        self.odd: list[str] = []
        self.is_wanted = True
        self._service, self._is_up, self._doing = service, is_up, doing
        self._open: list[Wish] = []
        self._random = random.Random(seed)

    def run(self) -> None:
        while self.is_wanted:
            if len(self._open) < OPEN_JOBS:
                self._create()
            else:
                self._look_after(self._random.choice(self._open))

    def _create(self) -> None:
        wish = Wish(
            name=f"{self.name}-{len(self.wishes)}", labels={"client": self.name}, fails=self._random.random() < 0.1, seconds=self._random.choice((0, 0.2, 0.6))
        )
        self.wishes.append(wish)
        ledger = self._service.home / "ledger" / wish.name
        request = tiny_job(wish.name, ledger, seconds=wish.seconds, exit_code=int(wish.fails), labels=wish.labels)
        asks_again = self._random.random() < 0.5
        while self.is_wanted:
            status = self._ask("creating", "POST", f"{JOBS}?pipelineJobId={wish.name}", request)
            if status in (200, 409):  # it was created before the answer was lost
                wish.is_answered = True
                self._open.append(wish)
            if status or not asks_again:
                return

    def _look_after(self, wish: Wish) -> None:
        if self._random.random() < 0.05:
            wish.is_cancel_sent = True
            if self._ask("cancelling", "POST", f"{JOBS}/{wish.name}:cancel") == 200:
                wish.is_cancelled = True
        try:
            status, answer = self._service.call("GET", f"{JOBS}/{wish.name}")
        except Unanswered:
            self._is_up.wait(PATIENCE_SECONDS)
            return
        if status != 200:
            self.odd.append(f"GET {wish.name}: {status} {answer}")
        elif wish.is_cancelled and answer["state"] not in (*ENDS, "PIPELINE_STATE_CANCELLING"):
            self.odd.append(f"GET {wish.name}: {answer['state']} after its cancellation was answered")
        if status != 200 or answer["state"] in ENDS:
            self._open.remove(wish)
        time.sleep(self._random.uniform(0, 0.1))

    def _ask(self, what: str, method: str, path: str, body: object = None) -> int:
        """The status of the answer; 0 without one."""
        doing, began = self._doing[what], time.monotonic()
        doing.begun.set()
        try:
            status, answer = self._service.call(method, path, body)
        except Unanswered:
            doing.unanswered += 1
            doing.begun.clear()
            self._is_up.wait(PATIENCE_SECONDS)
            return 0
        doing.begun.clear()
        doing.seconds = time.monotonic() - began
        if status not in (200, 409):
            self.odd.append(f"{method} {path}: {status} {answer}")
        return status


class Campaign:
    """One service, its clients and its killer."""

    def __init__(self, home: Path, *, seed: int, max_running: int, clients: int) -> None:
        self.service = ServiceProcess(home, "--max-running", str(max_running))
        self.max_running = max_running
        self.doing = {"creating": Doing(), "cancelling": Doing()}
        self.kills: Counter[str] = Counter()
        self.caught: Counter[str] = Counter()
        """Kills that left something half done."""
        self.interrupted: Counter[str] = Counter()
        """Runs whose process was killed, and how often."""
        self._is_up = threading.Event()
        self._random = random.Random(seed)
        (home / "ledger").mkdir()
        self.clients = [Client(f"client{number}", self.service, self._is_up, self.doing, f"{seed}/{number}") for number in range(clients)]

    def run(self, kills: int, *, tuning_jobs: int, report: Callable[[str], None]) -> Evidence:
        """Kill so often; then let everything end."""
        try:
            self._start()
            tuning = [str(real_job(self.service)["pipelineJob"]).rpartition("/")[2] for _ in range(tuning_jobs)]
            for client in self.clients:
                client.start()
            order = [KINDS[number % len(KINDS)] for number in range(kills)]
            self._random.shuffle(order)
            for number, kind in enumerate(order, 1):
                self._kill(kind)
                report(f"kill {number} of {kills}: {kind}")
            self._dismiss_clients()
            self._wait_for_all()
            return self._evidence(tuning)
        finally:
            self._dismiss_clients()
            self.service.end()
            self.service.end_jobs()

    def _dismiss_clients(self) -> None:
        for client in self.clients:
            client.is_wanted = False
        for client in filter(Client.is_alive, self.clients):
            client.join()

    def _start(self) -> None:
        self.service.start()
        self.service.wait()
        self._is_up.set()

    def _kill(self, kind: str) -> None:
        """Wait for the moment, kill, look at what lies about, and start the service again."""
        before = {what: doing.unanswered for what, doing in self.doing.items()}
        if kind == "starting":
            self._end()
            self.service.start()
            time.sleep(self._random.uniform(0, 1.5))
        elif kind in self.doing:
            self.doing[kind].begun.wait(PATIENCE_SECONDS)
            time.sleep(self._random.uniform(0, self.doing[kind].seconds))
        elif kind == "power":
            self._wait_for(lambda: bool(self.service.processes()))
        elif kind in FILES:
            known = self._files(kind)
            self._wait_for(lambda: self._files(kind) != known)
            time.sleep(self._random.uniform(0, 0.02))
        else:
            time.sleep(self._random.uniform(0, 2))
        self._end()
        is_caught = (kind == "power" and self._kill_jobs()) or (kind in FILES and self._is_half_done(kind))
        self._start()
        is_caught = is_caught or (kind in self.doing and self.doing[kind].unanswered > before[kind])
        self.kills[kind] += 1
        self.caught[kind] += is_caught

    def _end(self) -> None:
        self._is_up.clear()
        self.service.end(signal.SIGKILL)

    def _files(self, kind: str) -> set[Path]:
        return set(self.service.jobs.glob(f"*/{FILES[kind]}"))

    def _wait_for(self, look: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not look() and time.monotonic() < deadline:
            time.sleep(0.002)

    def _is_half_done(self, kind: str) -> bool:
        """Beginning: whether a job has a folder, or is about to have one, and no process yet. Finishing: whether one has ended that is believed to be open."""
        ends = ", ".join(f"'{state}'" for state in (*ENDS, "PIPELINE_STATE_QUEUED"))
        rows = self.service.stored(f"SELECT json_extract(body, '$._tuneline.run') FROM resources WHERE kind = 'pipelineJobs' AND state NOT IN ({ends})")  # noqa: S608 (constants)
        folders = [self.service.jobs / run for (run,) in rows]
        return any((folder / OUTCOME).exists() if kind == "finishing" else not (folder / PROCESS).exists() for folder in folders)

    def _kill_jobs(self) -> bool:
        """Kill the jobs' processes; whether there were any. Their tasks die by themselves when nobody holds their lifeline."""
        living = self.service.processes()
        for process in living.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        self.interrupted.update(living.keys())
        return bool(living)

    def _wait_for_all(self) -> None:
        deadline = time.monotonic() + 600
        while any(job["state"] not in ENDS for job in self.service.listed("pipelineJobs", readMask="name", pageSize=1000)):
            if time.monotonic() > deadline:
                return  # a broken promise, which is told
            time.sleep(0.1)

    def _evidence(self, tuning: list[str]) -> Evidence:
        wishes = [wish for client in self.clients for wish in client.wishes]
        return Evidence.gather(self.service, wishes, tuning, self.interrupted, [line for client in self.clients for line in client.odd])


def table(campaign: Campaign, evidence: Evidence, broken: list[str]) -> str:
    """What was done, and what came of it."""
    lines = ["| killed | kills | with something half done |", "|---|---|---|"]
    lines += [f"| {kind} | {campaign.kills[kind]} | {campaign.caught[kind] if kind not in ('any moment', 'starting') else ''} |" for kind in KINDS]
    lines += ["", "| | |", "|---|---|"]
    lines += [f"| {what} | {number} |" for what, number in evidence.counts(campaign.max_running).items()]
    lines += ["", *(broken or ["No promise is broken."])]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-running", type=int, default=2)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--tuning-jobs", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder), seed=given.seed, max_running=given.max_running, clients=given.clients)
        evidence = campaign.run(given.kills, tuning_jobs=given.tuning_jobs, report=lambda line: print(line, file=sys.stderr, flush=True))
        broken = broken_promises(evidence, given.max_running)
    print(table(campaign, evidence, broken))
    if given.json:
        figures = {"kills": campaign.kills, "caught": campaign.caught, **evidence.counts(given.max_running), "broken": broken}
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
