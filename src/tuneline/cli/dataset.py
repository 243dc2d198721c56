"""`tuneline dataset from-code PATH --out DIR`: make a data set from a code base."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tuneline.data.from_code import FORMATS, Selection, write_dataset

EXAMPLE = """example:
  $ tuneline dataset from-code ~/my-service --out data
  data/train.jsonl: 812 examples from 96 modules
  data/evaluation.jsonl: 74 examples from 11 modules
"""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tuneline dataset", description="Make a data set.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    from_code = commands.add_parser(
        "from-code", help="from a Python code base: documented function in, its code out",
        description="Make train.jsonl and evaluation.jsonl from the documented functions of a Python code base. Nothing leaves this machine. "
        "Evaluation examples come from modules that training never sees; the same code always gives the same bytes.",
        epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    selection = asdict(Selection())
    from_code.add_argument("path", metavar="PATH", type=Path, help="root of a package or repository")
    from_code.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for the two files")
    from_code.add_argument("--format", choices=tuple(FORMATS), default="input-output", help="data format (default: input-output)")
    for name, meaning in (("max_examples", "at most so many training examples"), ("max_characters", "leave out examples longer than this")):
        from_code.add_argument(f"--{name.replace('_', '-')}", metavar="N", type=_count, default=selection[name], help=f"{meaning} (default: {selection[name]})")
    fraction = selection["evaluation_fraction"]
    from_code.add_argument("--evaluation-fraction", metavar="F", type=_fraction, default=fraction, help=f"share of modules held out (default: {fraction})")
    from_code.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(argv: Sequence[str]) -> int:
    given = parser().parse_args(argv)
    selection = Selection(evaluation_fraction=given.evaluation_fraction, max_examples=given.max_examples, max_characters=given.max_characters)
    counts = write_dataset(given.path, given.out, given.format, selection)
    if given.json:
        files = {"training_file": str(given.out / "train.jsonl"), "evaluation_file": str(given.out / "evaluation.jsonl")}
        print(json.dumps({**files, **counts}))
        return 0
    for name, side in (("train", "training"), ("evaluation", "evaluation")):
        print(f"{given.out / f'{name}.jsonl'}: {counts[f'{side}_examples']} examples from {counts[f'{side}_modules']} modules")
    return 0


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 or more")
    return number


def _fraction(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a share such as 0.1, from 0 to below 1")
    return number
