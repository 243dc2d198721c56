"""Write the tuning service's OpenAPI document, or check that it is current.

    python -m scripts.openapi [--check]

One operation or message a line, so that a change shows where it is.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tuneline.api.app import create_app
from tuneline.api.document import describe
from tuneline.api.server import open_service
from tuneline.api.settings import Settings

FILE = Path(__file__).resolve().parent.parent / "docs" / "openapi.json"
COMMAND = "python -m scripts.openapi"
OPEN_LEVELS = 3
"""What has a line of its own: `paths`, a path, a method."""


def text() -> str:
    """The document as it is committed."""
    with tempfile.TemporaryDirectory() as folder, open_service(Settings(home=Path(folder, "service"), runs_dir=Path(folder, "runs"))) as service:
        return _lines(describe(create_app(service)), OPEN_LEVELS) + "\n"


def main(argv: Sequence[str]) -> int:
    """Write docs/openapi.json; with `--check` only say whether it is current, and return 1 when it is not."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when the file is not current")
    arguments = parser.parse_args(argv)
    if not arguments.check:
        FILE.write_text(text(), encoding="utf-8")
        return 0
    if FILE.exists() and FILE.read_text(encoding="utf-8") == text():
        return 0
    print(f"{FILE} is not current; run: {COMMAND}", file=sys.stderr)
    return 1


def _lines(value: object, levels: int, indent: str = "") -> str:
    if not levels or not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False)
    inner = f"{indent} "
    members = (f"{inner}{json.dumps(key)}: {_lines(item, levels - 1, inner)}" for key, item in value.items())
    return "{\n" + ",\n".join(members) + f"\n{indent}}}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
