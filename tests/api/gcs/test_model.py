"""Random sequences of operations give what a dictionary in memory gives."""

import itertools
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tuneline.api.gcs import Buckets
from tuneline.api.gcs.conditions import Conditions
from tuneline.api.gcs.faults import StorageFault
from tuneline.api.gcs.listing import Question, read_token
from tuneline.api.gcs.names import path_of
from tuneline.api.gcs.objects import Target

NAMES = st.sampled_from(["a", "a/", "a/b", "a/b/c", "a//b", "b", "b.txt", "../a", "a/.", "x" * 256, "é/ü"])
CONTENT = st.binary(max_size=8)
ASKED = st.sampled_from(["nothing", "absent", "current", "stale", "other", "metageneration"])


@dataclass
class Known:
    content: bytes
    generation: int
    metageneration: int = 1
    metadata: dict[str, str] = field(default_factory=dict)


class Storage(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.model: dict[str, Known] = {}
        self.last = 0
        self.numbers = itertools.count()

    @initialize()
    def start(self) -> None:
        self.buckets = Buckets(self.folder)
        self.buckets.insert("bkt", {})

    def teardown(self) -> None:
        self.buckets.close()
        shutil.rmtree(self.folder)

    def conditions(self, asked: str, name: str) -> tuple[Conditions, int]:
        """Conditions on an object, and the code with which they fail, or 0."""
        known = self.model.get(name)
        generation, metageneration = (known.generation, known.metageneration) if known else (0, 0)
        match asked:
            case "absent":
                return Conditions(generation_match=0), 412 if known else 0
            case "current":
                return Conditions(generation_match=generation, metageneration_match=metageneration), 0
            case "stale":
                return Conditions(generation_match=generation + 1), 412
            case "other":
                return Conditions(generation_not_match=generation), 304
            case "metageneration":
                return Conditions(metageneration_match=2), 0 if metageneration == 2 else 412
        return Conditions(), 0

    def target(self, name: str, conditions: Conditions = Conditions()) -> Target:
        return Target(bucket="bkt", name=name, conditions=conditions)

    def expect(self, code: int, needed: tuple[str, ...] = ()) -> "pytest.RaisesExc[StorageFault] | None":
        """What a request must end with: what it needs is looked for before its conditions are."""
        code = 404 if any(name not in self.model for name in needed) else code
        return pytest.RaisesExc(StorageFault, check=lambda fault: fault.code == code) if code else None

    def written(self, name: str, content: bytes, generation: int, metadata: dict[str, str]) -> None:
        assert generation > self.last
        self.last = generation
        self.model[name] = Known(content, generation, metadata=metadata)

    @rule(name=NAMES, content=CONTENT, asked=ASKED)
    def write(self, name: str, content: bytes, asked: str) -> None:
        conditions, code = self.conditions(asked, name)
        metadata = {"number": str(next(self.numbers))}
        with self.buckets.objects.draft() as draft:
            draft.write(content)
            if raised := self.expect(code):
                with raised:
                    self.buckets.objects.commit(draft, self.target(name, conditions), {"contentType": "x/y", "metadata": metadata})
                return
            record = self.buckets.objects.commit(draft, self.target(name, conditions), {"contentType": "x/y", "metadata": metadata})
        self.written(name, content, record.generation, metadata)

    @rule(name=NAMES, asked=ASKED)
    def delete(self, name: str, asked: str) -> None:
        conditions, code = self.conditions(asked, name)
        if raised := self.expect(code, (name,)):
            with raised:
                self.buckets.objects.delete(self.target(name, conditions))
            return
        self.buckets.objects.delete(self.target(name, conditions))
        del self.model[name]

    @rule(source=NAMES, name=NAMES, asked=ASKED, moves=st.booleans())
    def copy_or_move(self, source: str, name: str, asked: str, moves: bool) -> None:
        if moves and source == name:
            return
        conditions, code = self.conditions(asked, name)
        operation = self.buckets.objects.move if moves else self.buckets.objects.copy
        if raised := self.expect(code, (source,)):
            with raised:
                operation(self.target(source), self.target(name, conditions))
            return
        known = self.model[source]
        record = operation(self.target(source), self.target(name, conditions))
        self.written(name, known.content, record.generation, known.metadata)
        if moves:
            del self.model[source]

    @rule(sources=st.lists(NAMES, min_size=1, max_size=3), name=NAMES, asked=ASKED)
    def compose(self, sources: list[str], name: str, asked: str) -> None:
        conditions, code = self.conditions(asked, name)
        targets = [self.target(source) for source in sources]
        if raised := self.expect(code or (404 if any(source not in self.model for source in sources) else 0)):
            with raised:
                self.buckets.objects.compose(targets, self.target(name, conditions), {})
            return
        content = b"".join(self.model[source].content for source in sources)
        self.written(name, content, self.buckets.objects.compose(targets, self.target(name, conditions), {}).generation, {})

    @rule(name=NAMES, asked=ASKED)
    def change(self, name: str, asked: str) -> None:
        conditions, code = self.conditions(asked, name)
        metadata = {"number": str(next(self.numbers))}
        if raised := self.expect(code, (name,)):
            with raised:
                self.buckets.objects.change(self.target(name, conditions), lambda properties: {**properties, "metadata": metadata})
            return
        self.buckets.objects.change(self.target(name, conditions), lambda properties: {**properties, "metadata": metadata})
        self.model[name].metageneration += 1
        self.model[name].metadata = metadata

    @rule(name=NAMES, content=CONTENT)
    def write_by_hand(self, name: str, content: bytes) -> None:
        path = self.folder / "bkt" / name
        if path_of(name) is None or path.is_dir() or any(parent.is_file() for parent in path.parents):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.written(name, content, self.buckets.objects.get(self.target(name)).generation, {})

    @rule(name=NAMES)
    def delete_by_hand(self, name: str) -> None:
        path = self.folder / "bkt" / name
        if path_of(name) is None or not path.is_file():
            return
        path.unlink()
        del self.model[name]

    @rule()
    def restart(self) -> None:
        self.buckets.close()
        self.buckets = Buckets(self.folder)

    @rule(prefix=st.sampled_from(["", "a", "a/", "b", "z"]), delimiter=st.sampled_from(["", "/"]), size=st.integers(1, 3))
    def list(self, prefix: str, delimiter: str, size: int) -> None:
        items, prefixes, after = [], [], ""
        while True:
            _, page = self.buckets.objects.list("bkt", Question(prefix=prefix, delimiter=delimiter, max_results=size, after=after))
            items += page.items
            prefixes += page.prefixes
            if not page.token:
                break
            after = read_token(page.token)
        rests = [name.removeprefix(prefix) for name in sorted(self.model) if name.startswith(prefix)]
        assert items == [prefix + rest for rest in rests if not delimiter or delimiter not in rest]
        assert prefixes == sorted({prefix + rest.split("/")[0] + "/" for rest in rests if delimiter and delimiter in rest})

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        found = {}
        for name in self.model:
            record, file = self.buckets.objects.open(self.target(name))
            with file:
                found[name] = Known(file.read(), record.generation, record.metageneration, record.properties.get("metadata", {}))
        assert found == self.model


TestStorage = pytest.mark.usefixtures("unsynced")(Storage.TestCase)
TestStorage.settings = settings(
    max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
