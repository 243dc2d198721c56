"""`tuneline.steps.staged`, which looks at its outputs many times a second: `python -m tests.launching.quick_staged STEP ...`."""

from tuneline.staging import job
from tuneline.steps import run_step, staged

if __name__ == "__main__":
    job.SECONDS_BETWEEN_LOOKS = 0.02
    run_step("staged", staged.main)
