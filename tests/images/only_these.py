"""Import modules where only some distributions are installed: `python only_these.py '{"modules": [...], "distributions": [...]}'`.

Every other distribution is hidden, as if it were not there. Prints the top-level modules that were loaded.
"""

import importlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, DistributionFinder, packages_distributions

ANY = DistributionFinder.Context()


class Hiding(DistributionFinder):
    """Finds modules and metadata on the path, but those of hidden distributions."""

    def __init__(self, kept: Iterable[str], hidden: Iterable[str]) -> None:
        self._kept, self._hidden = frozenset(kept), frozenset(hidden)

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        return None if name.partition(".")[0] in self._hidden else PathFinder.find_spec(name, path)

    def find_distributions(self, context: DistributionFinder.Context = ANY) -> Iterator[Distribution]:
        return (found for found in PathFinder.find_distributions(context) if normal(found.metadata["Name"]) in self._kept)


def normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def main(request: Mapping[str, list[str]]) -> None:
    """Hide, import, print."""
    kept = {normal(name) for name in [*request["distributions"], "tuneline"]}
    hidden = [module for module, names in packages_distributions().items() if not kept & {normal(name) for name in names}]
    sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding(kept, hidden)
    before = set(sys.modules)  # a site package may load things at the interpreter's start
    for module in request["modules"]:
        importlib.import_module(module)
    print(json.dumps({"loaded": sorted({name.partition(".")[0] for name in sys.modules.keys() - before}), "hidden": hidden}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
