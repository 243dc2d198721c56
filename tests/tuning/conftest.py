from pathlib import Path

import pytest

from tests.tuning.workbench import Workbench
from tuneline.tuning import reporting


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    monkeypatch.setattr(reporting, "SECONDS_BETWEEN_REPORTS", 0.0)
    return Workbench(tmp_path)
