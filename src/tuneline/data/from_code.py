"""Make a tuning data set from a Python code base: documented function in, its code out.

    tuneline dataset from-code PATH --out DIR [--format input-output|author-chat|prompt-completion|messages]

The split is by module, so that no file gives examples to both sides, and it depends on names and text only: the same tree
always gives the same bytes.
"""

import ast
import hashlib
import json
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuneline.errors import DatasetError

SKIPPED_FOLDERS = frozenset({"__pycache__", "build", "dist", "node_modules", "site-packages", "test", "tests", "venv"})
CONTEXT = "You write Python for this code base. Answer with the code of one complete function."


@dataclass(frozen=True, kw_only=True)
class Function:
    """A documented function or method of a code base."""

    module: str
    qualified_name: str
    """`Class.method` for a method."""
    signature: str
    """One line, without the colon: `def name(arguments) -> result`."""
    docstring: str
    code: str
    """The definition, dedented, docstring and comments included: what stands in the code base is what the model learns."""
    body: str
    """The statements, normalised: equal for functions that do the same under other names."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which functions become examples, and how many."""

    evaluation_fraction: float = 0.1
    """Share of the modules that is held out for evaluation."""
    max_examples: int = 10_000
    """At most so many training examples (the limit of the hosted templates)."""
    max_evaluation_examples: int = 250
    max_characters: int = 4_000
    """Examples with a longer prompt and code together are left out."""


def source_files(root: Path) -> Iterator[tuple[str, Path]]:
    """Dotted module name and path of every Python file below `root`, sorted; tests and installed packages are skipped."""
    if not root.is_dir():
        raise DatasetError(f"{root}: expected a folder with Python files. Give the root of your package or repository.")
    prefix = f"{root.resolve().name}." if (root / "__init__.py").exists() else ""
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if not any(part in SKIPPED_FOLDERS or part.startswith(".") for part in parts[:-1]):
            names = parts[:-1] if parts[-1] == "__init__" else parts
            yield (prefix + ".".join(names)).rstrip(".") or root.resolve().name, path


def is_held_out(module: str, fraction: float) -> bool:
    """Whether a module belongs to evaluation. Decided by the module's name alone, so that adding a module moves no other."""
    return int.from_bytes(hashlib.sha256(module.encode()).digest()[:8], "big") < fraction * 2**64


def documented_functions(module: str, source: str) -> Iterator[Function]:
    """Every function of a module that has a docstring and does something; nothing for text that is not valid Python 3."""
    tree = _parsed(source)
    if tree is None:
        return
    lines = source.splitlines(keepends=True)
    for qualified_name, node in _definitions(tree, ""):
        docstring = ast.get_docstring(node)
        if not docstring or not _does_something(node):
            continue
        code = textwrap.dedent("".join(lines[node.lineno - 1 : node.end_lineno])).rstrip() + "\n"
        if _parsed(code) is None:  # a text in it stands left of the definition
            continue
        keyword = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        yield Function(
            module=module,
            qualified_name=qualified_name,
            signature=f"{keyword} {node.name}({ast.unparse(node.args)}){returns}",
            docstring=docstring,
            code=code,
            body="\n".join(ast.unparse(statement) for statement in node.body[1:]),
        )


def _parsed(source: str) -> ast.Module | None:
    """The syntax tree; nothing for text that is not valid Python 3."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # somebody else's code may warn of its escapes, which is not for the reader of our output
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _definitions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + child.name, child
        inner = f"{prefix}{child.name}." if isinstance(child, ast.ClassDef) else prefix
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _definitions(child, inner)


def _does_something(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    rest = node.body[1:]
    return bool(rest) and not (len(rest) == 1 and isinstance(rest[0], ast.Pass | ast.Raise | ast.Expr | ast.Return) and len(ast.unparse(rest[0])) < 30)


def prompt(function: Function) -> str:
    """The request for one function, as a user would write it."""
    owner, _, name = function.qualified_name.rpartition(".")
    place = f"class `{owner}`, module `{function.module}`" if owner else f"module `{function.module}`"
    return f"Write the function `{name}` of {place}.\n\n{function.signature}\n\n{function.docstring}"


def split(functions: Iterable[Function], selection: Selection) -> tuple[list[Function], list[Function]]:
    """Training and evaluation functions: apart by module, without duplicates, with no evaluation code in training."""
    training: dict[str, Function] = {}
    evaluation: dict[str, Function] = {}
    for function in functions:
        if len(prompt(function)) + len(function.code) <= selection.max_characters:
            side = evaluation if is_held_out(function.module, selection.evaluation_fraction) else training
            side.setdefault(_digest(prompt(function) + "\0" + function.code), function)
    seen = {text for function in training.values() for text in (function.body, function.docstring)}
    for key in [key for key, function in evaluation.items() if {function.body, function.docstring} & seen]:
        del evaluation[key]
    # Ordered by digest: a mixed order that needs no random seed, and a cut that keeps every module's share.
    return _first(training, selection.max_examples), _first(evaluation, selection.max_evaluation_examples)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _first(functions: Mapping[str, Function], count: int) -> list[Function]:
    return [functions[key] for key in sorted(functions)[:count]]


def _input_output(function: Function) -> dict[str, object]:
    return {"input_text": prompt(function), "output_text": function.code}


def _author_chat(function: Function) -> dict[str, object]:
    turns = [{"author": "user", "content": prompt(function)}, {"author": "assistant", "content": function.code}]
    return {"context": CONTEXT, "messages": turns}


def _prompt_completion(function: Function) -> dict[str, object]:
    return {"prompt": prompt(function), "completion": function.code}


def _messages(function: Function) -> dict[str, object]:
    turns = [("system", CONTEXT), ("user", prompt(function)), ("assistant", function.code)]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


FORMATS: Mapping[str, Callable[[Function], dict[str, object]]] = {
    "input-output": _input_output,
    "author-chat": _author_chat,
    "prompt-completion": _prompt_completion,
    "messages": _messages,
}


def write_dataset(root: Path, out: Path, data_format: str = "input-output", selection: Selection = Selection()) -> dict[str, int]:
    """Write `train.jsonl` and `evaluation.jsonl` below `out`; return how many examples and modules each side has."""
    sources = ((module, path.read_text(encoding="utf-8", errors="replace")) for module, path in source_files(root))
    functions = [function for module, source in sources for function in documented_functions(module, source)]
    training, evaluation = split(functions, selection)
    if not training:
        raise DatasetError(f"{root}: no function with a docstring was found. Give a code base with documented functions.")
    out.mkdir(parents=True, exist_ok=True)
    for name, side in (("train", training), ("evaluation", evaluation)):
        _write_lines(out / f"{name}.jsonl", [FORMATS[data_format](function) for function in side])
    return {
        "training_examples": len(training),
        "training_modules": len({function.module for function in training}),
        "evaluation_examples": len(evaluation),
        "evaluation_modules": len({function.module for function in evaluation}),
    }


def _write_lines(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline="\n")
