"""`tuneline models`: the tuned models that are registered on this machine, and which one is the champion."""

import argparse
import json
from collections.abc import Sequence

from tuneline.cli.table import print_table
from tuneline.errors import UsageError


def parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(prog="tuneline models", description="List and show tuned models, and choose the champion.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="list the registered models, newest first", allow_abbrev=False)
    listing.add_argument("--label", action="append", default=[], metavar="KEY[=VALUE]", help="only models with this label; may be given several times")
    listing.add_argument("--json", action="store_true", help="print one JSON object")
    show = commands.add_parser("show", help="show one model: labels, metrics, files", allow_abbrev=False)
    show.add_argument("name", metavar="MODEL", help="resource name, id or display name, each with @VERSION, @ALIAS or neither; or 'latest'")
    show.add_argument("--verify", action="store_true", help="check every file against its hash")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    promote = commands.add_parser("promote", help="make a version the champion, which the next one has to beat", allow_abbrev=False)
    promote.add_argument("name", metavar="MODEL", help="as for show")
    return parser


def main(argv: Sequence[str]) -> int:
    given = parser().parse_args(argv)
    return {"list": _list, "show": _show, "promote": _promote}[given.command](given)


def _list(given: argparse.Namespace) -> int:
    from tuneline.registry import models

    empty = [label for label in given.label if not label.partition("=")[0]]
    if empty:
        raise UsageError(f"--label {empty[0]!r}: expected KEY or KEY=VALUE.")
    versions = models.list_versions({key: value for key, _, value in (label.partition("=") for label in given.label)})
    if given.json:
        print(json.dumps({"models": [version.to_json() for version in versions]}))
    elif versions:
        rows = [("MODEL", "BASE MODEL", "CREATED", "NAME")]
        rows += [(v.registration.display_name, v.registration.base_model, v.create_time[:19].replace("T", " "), v.resource_name) for v in versions]
        print_table(rows)
    return 0


def _show(given: argparse.Namespace) -> int:
    from tuneline.registry import models

    version = models.get(given.name)
    if given.verify:
        version.verify()
    record = version.to_json()
    if given.json:
        print(json.dumps(record))
        return 0
    for key, value in record.items():
        if key == "files":
            print(f"{key}:", *(f"  {name}  {file.bytes:,} bytes  sha256 {file.sha256[:12]}..." for name, file in version.files.items()), sep="\n")
        elif isinstance(value, dict):
            print(f"{key}:", *(f"  {name}: {inner}" for name, inner in value.items()), sep="\n")
        elif value not in ("", []):
            print(f"{key}: {', '.join(value) if isinstance(value, list) else value}")
    return 0


def _promote(given: argparse.Namespace) -> int:
    from tuneline.registry import lineage, models

    version = models.get(given.name)
    version.verify()
    lineage.promote(version)
    print(f"{version.resource_name} is the champion.")
    return 0
