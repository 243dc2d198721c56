"""Eight processes that all want to make the same thing, in simulated time: how often is it made, with claims and without?

    python -m benchmarks.exactly_once [--cases 1000]

Each case is a schedule drawn from its seed: which process goes on next, where it dies, which answers are lost, which look-ups come too early. The
simulation is the one of tests/vertex/test_once.py.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence

from tests.vertex.simulation import RUNNERS, Api, Attempt, Schedule, run_all
from tests.vertex.test_once import CRASH_POINTS, with_claims, without_claims


def simulate(cases: int, way: Callable[[Schedule, Api], Attempt]) -> tuple[Counter[int], Counter[str]]:
    """How often the thing was made -> in how many cases; and what happened on the way."""
    made, events = Counter[int](), Counter[str]()
    for seed in range(cases):
        schedule = Schedule(seed)
        api = Api(schedule)
        run_all(schedule, CRASH_POINTS, way(schedule, api))
        made[len(api.made())] += 1
        events += schedule.events
    return made, events


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exactly_once", description="Eight processes that want the same thing.")
    parser.add_argument("--cases", type=int, default=1000)
    cases = parser.parse_args(argv).cases
    made, events = simulate(cases, with_claims)
    control, _ = simulate(cases, without_claims)
    print(f"{cases} cases of {RUNNERS} processes")
    for name, counts in (("with claims", made), ("without", control)):
        print(f"{name:<14} once in {counts[1]}, several times in {sum(counts[number] for number in counts if number > 1)}, never in {counts[0]}")
    crashes = sum(count for name, count in events.items() if name.startswith("crash "))
    print(
        f"on the way     {crashes} crashes at {len(CRASH_POINTS)} points, "
        + ", ".join(f"{count} x {name}" for name, count in sorted(events.items()) if not name.startswith("crash "))
    )
    return 0 if made == Counter({1: cases}) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
