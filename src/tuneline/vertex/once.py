"""Do something outside exactly once, though the process may die at any point and others try the same: a claim in Cloud Storage.

    absent or FREE -> INTENT -> CALLED -> DONE

A claim is one object, and every change of it names the generation that it replaces, so only one process makes it. INTENT is written before the
call, CALLED (with the name of the long-running operation) after its answer, DONE with the result, FREE when it is certain that nothing was begun,
or that what was begun has failed. Others wait. A claim that stops changing for `lease_seconds`, measured by the waiting process's own clock, is
taken over: its holder has died. What a holder may have called without writing so down is looked for, for `settle_seconds`, because what a call
makes may show late, before the call is made again.

What cannot be seen from here: a process that sleeps longer than its lease between its last look at the claim and the call itself. The calls
therefore carry names that the API itself accepts once only, wherever it offers that.
"""

import contextlib
import json
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, Protocol

from tuneline.errors import CapacityError, InfrastructureError, TunelineError, UserError
from tuneline.vertex.backoff import Clock
from tuneline.vertex.objects import ABSENT
from tuneline.vertex.rest import OutcomeUnknown

Stage = Literal["FREE", "INTENT", "CALLED", "DONE"]

MOST_CALLS = 5
"""Calls without an answer before a runner gives up."""


class ClaimStore(Protocol):
    """Where claims are: `tuneline.vertex.objects.Objects`, or a fake of it."""

    def read(self, uri: str) -> tuple[bytes, int] | None: ...
    def write(self, uri: str, content: bytes, *, generation: int) -> int | None: ...


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Content of a claim's object."""

    holder: str
    """Who carries the action out; empty when the last one gave up and said so."""
    stage: Stage = "INTENT"
    operation: str = ""
    """Name of what the call has started, once it is known."""
    result: str = ""
    beat: int = 0
    """Counts the holder's signs of life."""


class Action(Protocol):
    """What is to be done once. Results and operations are names."""

    def look_up(self) -> str:
        """The result, if the thing has been done already, or nothing."""

    def call(self) -> str:
        """Start it; the operation's name. Raises OutcomeUnknown when it may have been started, UserError or CapacityError when it was refused."""

    def finish(self, operation: str, beat: Callable[[], None]) -> str | TunelineError:
        """Wait for the operation, giving a sign of life at least every few seconds; the result, or the error with which the operation has ended.

        An error on the way to the operation is raised: it says nothing about what becomes of it.
        """


class LostClaim(InfrastructureError):
    """Another process took the claim over, because this one gave no sign of life for too long."""


@dataclass(kw_only=True)
class Once:
    """The rules of claims: where they are and how long things take."""

    store: ClaimStore
    clock: Clock = field(default_factory=Clock)
    lease_seconds: float = 300.0
    """Longer than any single call may take: six connections of ten seconds that never come about, a minute of waits, a minute for the answer."""
    settle_seconds: float = 60.0
    """Longer than it takes until what a call has made shows."""
    poll_seconds: float = 2.0
    holder: str = field(default_factory=lambda: uuid.uuid4().hex)

    def do(self, uri: str, action: Action) -> str:
        """The result of the action, which is carried out once for all that use the claim at `uri`. After an error the claim is free for the next try."""
        seen, seen_since = ABSENT, self.clock.now()
        while True:
            claim, generation = self._read(uri)
            if claim.stage == "DONE":
                return claim.result
            if generation != seen:
                seen, seen_since = generation, self.clock.now()
            if claim.holder in ("", self.holder) or self.clock.now() - seen_since >= self.lease_seconds:
                is_free = claim.stage == "FREE"
                taken = replace(claim, holder=self.holder, stage="INTENT" if is_free else claim.stage, beat=claim.beat + 1)
                held = self.write(uri, taken, generation)
                if held is not None:
                    with contextlib.suppress(LostClaim):  # whoever has it now brings the result
                        return self._carry_out(_Held(self, uri, held, taken, is_clean=is_free), action)
            else:
                self.clock.sleep(self.poll_seconds)

    def write(self, uri: str, claim: Claim, generation: int) -> int | None:
        """Replace this generation of the claim; nothing when another process was first."""
        return self.store.write(uri, json.dumps(asdict(claim)).encode(), generation=generation)

    def _read(self, uri: str) -> tuple[Claim, int]:
        """The claim; a free one where there is none."""
        found = self.store.read(uri)
        if found is None:
            return Claim(holder="", stage="FREE"), ABSENT
        try:
            return Claim(**json.loads(found[0])), found[1]
        except (ValueError, TypeError):
            raise InfrastructureError(f"{uri}: is no claim.", next_action="Delete the object, if no task that uses it is running.") from None

    def _carry_out(self, held: "_Held", action: Action) -> str:
        try:
            return self._carried_out(held, action)
        except BaseException:
            with contextlib.suppress(Exception):  # the reason matters, not that the claim could not be freed, too
                held.give_up()
            raise

    def _carried_out(self, held: "_Held", action: Action) -> str:
        if not held.claim.operation:
            result = action.look_up() if held.is_clean else self._settle(held, action)
            result = result or self._call(held, action)
            if result:
                return held.done(result)
        outcome = action.finish(held.claim.operation, held.beat)
        if isinstance(outcome, TunelineError):
            held.is_clean = True
            raise outcome
        return held.done(outcome)

    def _call(self, held: "_Held", action: Action) -> str:
        """Call until there is an answer. The result, when it turns out that the thing is done; nothing when an operation is under way."""
        for number in range(1, MOST_CALLS + 1):
            held.beat()  # the last look at whether the claim is still ours
            was_clean, held.is_clean = held.is_clean, False
            try:
                operation = action.call()
            except (UserError, CapacityError):
                held.is_clean = was_clean
                # Perhaps it was refused because an earlier call, without an answer, has succeeded.
                if was_clean or not (result := self._settle(held, action)):
                    raise
                return result
            except OutcomeUnknown:
                if result := self._settle(held, action):
                    return result
                if number == MOST_CALLS:
                    raise
            else:
                held.change(stage="CALLED", operation=operation)
                return ""
        raise AssertionError("the last call either answers or raises")

    def _settle(self, held: "_Held", action: Action) -> str:
        """Look for what an unanswered call has done, until it would have shown."""
        until = self.clock.now() + self.settle_seconds
        while True:
            held.beat()
            if result := action.look_up():
                return result
            if self.clock.now() >= until:
                return ""
            self.clock.sleep(self.poll_seconds)


@dataclass
class _Held:
    """A claim that is ours, as long as every write finds the generation of the one before."""

    once: Once
    uri: str
    generation: int
    claim: Claim
    is_clean: bool
    """Whether it is certain that nothing is under way."""

    def beat(self) -> None:
        """A sign of life, and the check that the claim is still ours."""
        self.change()

    def done(self, result: str) -> str:
        self.change(stage="DONE", result=result)
        return result

    def give_up(self) -> None:
        """Leave it to the next one, and say whether that one has to look for something."""
        self.change(holder="", **({"stage": "FREE", "operation": ""} if self.is_clean else {}))

    def change(self, **changes: str) -> None:
        claim = replace(self.claim, beat=self.claim.beat + 1, **changes)  # type: ignore[arg-type]  # names and values are this module's own
        generation = self.once.write(self.uri, claim, self.generation)
        if generation is None:
            raise LostClaim(f"{self.uri}: another process has taken this over.", next_action="Nothing is lost: that process goes on with it. Try again.")
        self.claim, self.generation = claim, generation
