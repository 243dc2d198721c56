"""`tuneline validate FILE...`: check data files, all errors at once, with no account and no accelerator."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from tuneline.cli.base_models import BaseModel, add_flags, look_up
from tuneline.resolution import Limits

if TYPE_CHECKING:
    from tuneline.data.file_validation import FileReport

EXAMPLE = """example:
  $ tuneline validate train.jsonl --large-model-reference text-bison@001
  train.jsonl:7: /output_text: 'output_text' is null; expected a text. [null-value]
  train.jsonl: 500 examples (input-output), 1 problem
"""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tuneline validate",
        description="Check data files (JSONL): every line, and with a base model also lengths and numbers of examples. Exit code 1 when something is wrong.",
        epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("files", metavar="FILE", nargs="+", help="a path or gs:// URI")
    parser.add_argument("--role", choices=("train", "evaluation"), default="train", help="which limits hold (default: train)")
    add_flags(parser, default="")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(argv: Sequence[str]) -> int:
    given = parser().parse_args(argv)
    model = look_up(given) if given.large_model_reference else None
    reports = _reports(given, model)
    ok = all(report.ok for report in reports)
    if given.json:
        print(json.dumps(_as_json(reports)))
        return 0 if ok else 1
    for report in reports:
        for problem in report.problems:
            print(problem)
        left_out = f" ({report.problems.num_left_out:,} not shown)" if report.problems.num_left_out else ""
        total = report.problems.counts.total()
        print(f"{report.file}: {report.examples:,} examples ({report.data_format or 'no known format'}), {total:,} problem{'s' * (total != 1)}{left_out}")
    return 0 if ok else 1


def _reports(given: argparse.Namespace, model: BaseModel | None) -> list["FileReport"]:
    from tuneline.data.file_validation import validate_file

    limits = model.limits if model else Limits()
    if model is None or model.folder is None:
        if model:
            print(f"{model.name} is not on this machine, so lengths are not checked; all else is.", file=sys.stderr)
        return [validate_file(file, role=given.role, limits=limits, default_context=given.default_context) for file in given.files]
    from tuneline.data.encoding import ExampleEncoder

    encoder = ExampleEncoder(tokenizer=model.tokenizer(), max_sequence_length=model.resolved.max_sequence_length)
    return [validate_file(file, role=given.role, limits=limits, default_context=given.default_context, encode=encoder.encode) for file in given.files]


def _as_json(reports: Sequence["FileReport"]) -> dict[str, object]:
    return {
        "ok": all(report.ok for report in reports),
        "examples": sum(report.examples for report in reports),
        "errors": [asdict(problem) for report in reports for problem in report.problems],
        "counts": dict(sum((report.problems.counts for report in reports), Counter[str]())),
    }
