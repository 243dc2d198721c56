"""How fast and in how much memory is a data file checked? A million chat lines, some of them with planted faults.

    python -m benchmarks.validate_dataset [--lines 1000000] [--faults 500] [--file FILE]

Prints one JSON object: seconds, lines a second, peak memory of both processes together, and how many faults were found at their lines.
The file is made first and deleted afterwards, unless `--file` names one to keep.
"""

import argparse
import json
import os
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tuneline.data.file_validation import validate_file

WORDS = ("return", "value", "list", "def", "for", "in", "if", "not", "None", "self", "name", "path", "read", "write", "data", "file", "index", "key")
FAULTS: dict[str, tuple[str, str]] = {
    "duplicate-key": ('"role": "user"', '"role": "user", "role": "user"'),
    "wrong-role": ('"user"', '"human"'),
    "null-value": ('"content": "', '"content": null, "x": "'),
    "not-finite-number": ('"content": "', '"content": NaN, "x": "'),
    "lone-surrogate": ('"content": "', '"content": "\\ud83d'),
    "nul-character": ('"content": "', '"content": "\\u0000'),
    "unknown-key": ('{"role"', '{"weight": 1, "role"'),
    "wrong-order": ('"role": "user"', '"role": "assistant"'),
    "missing-field": ('"role": "user", ', ""),
    "invalid-json": ("}]}", "}]"),
    "too-deep": ('{"messages": [', '{"messages": [' + "[" * 500),
    "not-an-object": ('{"messages"', '[{"messages"'),
    "empty-content": ('"content": "', '"content": "", "x": "'),
    "two-formats-in-file": ("", ""),
    "blank-line": ("", ""),
}


def lines(count: int, num_faults: int) -> Iterator[tuple[str, str]]:
    """Each line with the rule that it breaks, or nothing."""
    rng = random.Random(0)
    planted = dict(zip(rng.sample(range(1, count), num_faults), (rule for _ in range(num_faults) for rule in FAULTS), strict=False))
    for number in range(count):
        question, answer = (" ".join(rng.choices(WORDS, k=rng.randint(low, high))) for low, high in ((8, 25), (15, 45)))
        line = json.dumps({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer + "\n    x[1:2] # a : b"}]})
        rule = planted.get(number, "")
        if rule == "two-formats-in-file":
            line = json.dumps({"prompt": question, "completion": answer})
        elif rule == "blank-line":
            line = " "
        elif rule == "not-an-object":
            line = f"[{line}]"
        elif rule:
            line = line.replace(*FAULTS[rule], 1)
        yield line, rule


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--file", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = given.file or Path(folder) / "data.jsonl"
        expected = {}
        with path.open("w", encoding="utf-8") as file:
            for number, (line, rule) in enumerate(lines(given.lines, given.faults), 1):
                file.write(line + "\n")
                if rule:
                    expected[number] = rule
        own_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        report = validate_file(str(path))
        seconds = time.perf_counter() - start
        size = path.stat().st_size
    found = {problem.line: {other.rule for other in report.problems if other.line == problem.line} for problem in report.problems}
    missed = [number for number, rule in expected.items() if rule not in found.get(number, set())]
    own, child = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    result = {
        "lines": given.lines, "megabytes": round(size / 1e6, 1), "cores": len(os.sched_getaffinity(0)), "seconds": round(seconds, 2),
        "lines_per_second": round(given.lines / seconds), "peak_memory_megabytes": round((own + child) * 1024 / 1e6, 1),
        "memory_growth_megabytes": round((own - own_before) * 1024 / 1e6, 1), "faults_planted": len(expected), "faults_missed": len(missed),
        "clean_lines_accused": len(found.keys() - expected.keys()),
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
