"""The service is killed again and again while clients create and cancel jobs: the short form of `python -m benchmarks.service_kills`."""

from pathlib import Path

import pytest

from benchmarks.service_kills import KINDS, Campaign
from benchmarks.service_promises import broken_promises


@pytest.mark.slow
def test_every_job_survives_every_kill_and_runs_once(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=1, max_running=2, clients=2)
    evidence = campaign.run(12, tuning_jobs=0, report=lambda _line: None)
    assert broken_promises(evidence, campaign.max_running) == []
    assert (campaign.kills.keys(), campaign.kills.total()) == (set(KINDS), 12)
    assert sum(wish.is_answered for wish in evidence.wishes) > 5
    assert evidence.models
