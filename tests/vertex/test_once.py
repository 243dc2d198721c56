"""Claims under a schedule that is drawn from a seed: crashes between any two steps, lost answers, look-ups that come too early, eight processes at a time."""

import json
from collections import Counter
from collections.abc import Callable

import pytest

from tests.vertex.simulation import RUNNERS, Api, Attempt, Schedule, Store, run_all
from tuneline.errors import InfrastructureError, TunelineError, UserError
from tuneline.vertex.once import Once

CLAIM = "gs://bucket/claims/run-1"
CASES = 200
SETTLED = Api.SLOWEST_SECONDS + Api.STALE_SECONDS + 5
CRASH_POINTS = [
    "before a claim is read", "before INTENT is written", "after INTENT is written", "before a look-up", "before the call", "after the call",
    "before CALLED is written", "after CALLED is written", "before DONE is written", "after DONE is written", "before FREE is written", "after FREE is written",
]  # fmt: skip


def with_claims(schedule: Schedule, api: Api) -> Attempt:
    """Each attempt is a process of its own, so it has a holder of its own."""
    store = Store(schedule)
    return lambda: Once(store=store, clock=schedule.clock, settle_seconds=SETTLED, poll_seconds=10).do(CLAIM, api)


def without_claims(schedule: Schedule, api: Api) -> Attempt:
    """What everybody does: look, and call when there is nothing."""

    def attempt() -> str:
        if found := api.look_up():
            return found
        outcome = api.finish(api.call(), lambda: None)
        if isinstance(outcome, TunelineError):
            raise outcome
        return outcome

    return attempt


def test_whatever_happens_the_thing_is_made_once() -> None:
    events, cases = Counter[str](), 0
    for seed in range(CASES):
        schedule = Schedule(seed)
        api = Api(schedule)
        results = run_all(schedule, CRASH_POINTS, with_claims(schedule, api))
        assert len(api.made()) == 1, f"seed {seed}"
        assert results == [f"thing {api.operations.index(api.made()[0])}"] * RUNNERS, f"seed {seed}"
        events += schedule.events
        cases += 1
    assert cases == CASES
    assert {name for name in CRASH_POINTS if not events[f"crash {name}"]} == set()
    for event in ("answer lost", "call lost", "call refused", "operation failed", "operation unreachable", "store answer lost", "look-up too early"):
        assert events[event] >= 5, event


def test_without_claims_the_same_world_makes_it_several_times() -> None:
    made = []
    for seed in range(CASES):
        schedule = Schedule(seed)
        api = Api(schedule)
        run_all(schedule, CRASH_POINTS, without_claims(schedule, api))
        made.append(len(api.made()))
    assert len(made) == CASES
    assert sum(number > 1 for number in made) > CASES / 2


def test_a_process_that_sleeps_through_its_lease_is_stopped_by_a_name_that_the_api_accepts_once() -> None:
    """What claims alone cannot see: a call that arrives after others have taken its sender for dead."""
    duplicates, refused, cases = 0, 0, 0
    for seed in range(CASES // 4):
        for unique in (False, True):
            schedule = Schedule(seed)
            api = Api(schedule, unique=unique, oversleeps=400)
            run_all(schedule, CRASH_POINTS, with_claims(schedule, api))
            assert not unique or len(api.made()) == 1, f"seed {seed}"
            duplicates += not unique and len(api.made()) > 1
            refused += schedule.events["call refused: exists"]
            cases += 1
    assert cases == CASES // 2
    assert duplicates > 0
    assert refused > 0


class Scripted:
    """An action that does what a test says, and notes what it was asked."""

    def __init__(self, *, found: str = "", error: Exception | None = None, ended: str | TunelineError = "thing") -> None:
        self.found, self.error, self.ended = found, error, ended
        self.asked: list[str] = []

    def look_up(self) -> str:
        self.asked.append("look-up")
        return self.found

    def call(self) -> str:
        self.asked.append("call")
        if self.error:
            raise self.error
        return "operation"

    def finish(self, operation: str, beat: Callable[[], None]) -> str | TunelineError:
        self.asked.append(operation)
        beat()
        return self.ended


def done_once(action: Scripted, content: dict[str, str] | None = None) -> tuple[dict[str, str], str]:
    """The claim afterwards and the result, or the error's text."""
    schedule = Schedule(1)
    schedule.chance = lambda share, event: False  # type: ignore[method-assign]
    store = Store(schedule)
    if content is not None:
        store.objects[CLAIM] = (json.dumps(content).encode(), 1)
    outcome: list[str] = []

    def work() -> None:
        try:
            outcome.append(Once(store=store, clock=schedule.clock).do(CLAIM, action))
        except TunelineError as error:
            outcome.append(str(error))

    schedule.start("runner", work)
    schedule.run()
    return json.loads(store.objects[CLAIM][0]), outcome[0]


def test_a_claim_goes_from_intent_to_done() -> None:
    action = Scripted()
    claim, result = done_once(action)
    assert (claim["stage"], claim["operation"], claim["result"], result) == ("DONE", "operation", "thing", "thing")
    assert action.asked == ["look-up", "call", "operation"]


def test_what_was_done_before_there_were_claims_is_found() -> None:
    action = Scripted(found="thing of before")
    assert done_once(action)[1] == "thing of before"
    assert action.asked == ["look-up"]


def test_an_operation_that_a_dead_process_has_noted_is_waited_for_and_not_begun_again() -> None:
    action = Scripted()
    claim, result = done_once(action, {"holder": "dead", "stage": "CALLED", "operation": "of the dead"})
    assert (claim["stage"], result) == ("DONE", "thing")
    assert action.asked == ["of the dead"]


def test_after_a_refusal_nothing_has_to_be_looked_for() -> None:
    claim, message = done_once(Scripted(error=UserError("no permission")))
    assert (claim["holder"], claim["stage"], message) == ("", "FREE", "no permission")


def test_an_operation_that_has_failed_frees_the_claim() -> None:
    claim, message = done_once(Scripted(ended=UserError("image not found")))
    assert (claim["stage"], claim["operation"], message) == ("FREE", "", "image not found")


def test_a_refusal_after_an_unanswered_call_frees_nothing() -> None:
    """Perhaps the call before is what made the API refuse this one."""
    claim, message = done_once(Scripted(error=UserError("exists")), {"holder": "", "stage": "INTENT"})
    assert (claim["holder"], claim["stage"], message) == ("", "INTENT", "exists")


def test_an_error_on_the_way_to_the_operation_keeps_it() -> None:
    action = Scripted()
    action.finish = lambda operation, beat: (_ for _ in ()).throw(UserError("token expired"))  # type: ignore[method-assign]
    claim, message = done_once(action)
    assert (claim["holder"], claim["stage"], claim["operation"], message) == ("", "CALLED", "operation", "token expired")


def test_another_object_in_the_claims_place_is_named() -> None:
    store = Store(Schedule(1))
    store.read = lambda uri: (b"[]", 1)  # type: ignore[method-assign]
    with pytest.raises(InfrastructureError, match="is no claim"):
        Once(store=store).do(CLAIM, Scripted())
