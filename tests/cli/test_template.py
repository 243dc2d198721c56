"""`tuneline template`: what is printed, written and sent, and the exit codes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.fake_template_repository import FakeRepository, failing, serving
from tuneline import __version__, templates
from tuneline.cli import main

NAME = "tune-large-model"
DIGEST = templates.load(NAME).digest
PIN = f"sha256:{'a' * 64}"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("LOCAL_REGISTRY_CONTEXT", "LOCAL_REGISTRY_CREDENTIAL"):
        monkeypatch.setattr(f"kfp.registry.registry_client.{name}", str(tmp_path / name))


@pytest.fixture
def fake() -> Iterator[FakeRepository]:
    with serving(FakeRepository()) as repository:
        yield repository


class Tuneline:
    """The command line, with what it prints."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: object, code: int = 0) -> str:
        assert main(["template", *map(str, arguments)]) == code
        printed = self.capsys.readouterr()
        return printed.err if code else printed.out

    def json(self, *arguments: object) -> dict[str, object]:
        answer: dict[str, object] = json.loads(self(*arguments, "--json"))
        return answer


@pytest.fixture
def tuneline(capsys: pytest.CaptureFixture[str]) -> Tuneline:
    return Tuneline(capsys)


def test_show_tells_name_version_digest_images_and_inputs(tuneline: Tuneline) -> None:
    lines = tuneline("show", NAME).splitlines()
    assert lines[:6] == [
        f"name     {NAME}",
        f"version  {__version__}",
        f"digest   {DIGEST}",
        f"image    tuneline/base:{__version__}",
        f"image    tuneline/tuner-gpu:{__version__}",
        f"image    tuneline/predictor:{__version__}",
    ]
    assert any(line.split() == ["model_display_name", "text", "required"] for line in lines)
    answer = tuneline.json("show", NAME)
    assert list(answer) == ["name", "version", "digest", "source", "images", "inputs"]
    assert answer["inputs"][0]["name"] == "accelerator_count"


def test_show_takes_a_file_and_a_uri_and_tells_what_the_tag_stood_for(fake: FakeRepository, tuneline: Tuneline, capsys: pytest.CaptureFixture[str]) -> None:
    tuneline("publish", NAME, "--to", fake.url)
    assert main(["template", "show", f"{fake.url}/{NAME}/latest", "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == f"{fake.url}/{NAME}/latest is {DIGEST}\n"
    assert (found := json.loads(printed.out))["source"] == f"{fake.url}/{NAME}/{DIGEST}"
    assert {**found, "source": ""} == {**tuneline.json("show", templates.path(NAME)), "source": ""}


def test_retargeting_changes_the_images_and_nothing_else(tuneline: Tuneline) -> None:
    answer = tuneline.json("retarget", NAME, "--registry", "localhost:5000/team", "-o", "one.yaml")
    assert answer["images"] == [f"localhost:5000/team/tuneline/{role}:{__version__}" for role in ("base", "tuner-gpu", "predictor")]
    assert Path("one.yaml").read_text().replace("localhost:5000/team/", "") == templates.load(NAME).text
    assert Path("one.yaml").read_text().count("localhost:5000/team/") == 11
    tuneline("retarget", NAME, "--registry", "localhost:5000/team/", "-o", "two.yaml")
    assert Path("two.yaml").read_bytes() == Path("one.yaml").read_bytes()
    assert len(list(yaml.safe_load_all(Path("one.yaml").read_text()))) == 1


def test_retargeting_pins_by_flags_and_by_a_file(tuneline: Tuneline, capsys: pytest.CaptureFixture[str]) -> None:
    Path("digests.json").write_text(json.dumps({"tuneline/base": PIN}))
    where = ["--registry", "localhost:5000/team", "-o", "pinned.yaml", "--digests", "digests.json"]
    answer = tuneline.json("retarget", NAME, *where, "--digest", f"tuner-gpu={PIN}", "--digest", f"predictor={PIN}")
    assert answer["images"] == [f"localhost:5000/team/tuneline/{role}@{PIN}" for role in ("base", "tuner-gpu", "predictor")]
    assert main(["template", "retarget", NAME, *where]) == 0
    assert capsys.readouterr().err == (
        f"not pinned: localhost:5000/team/tuneline/tuner-gpu:{__version__}, localhost:5000/team/tuneline/predictor:{__version__}\n"
    )


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--registry", "https://localhost:5000"], 2, "expected a host and a path"),
        (["--registry", ""], 2, "expected a host and a path"),
        (["--registry", "team", "--digest", PIN], 2, "expected IMAGE=sha256:"),
        (["--registry", "team", "--digest", f"unknown={PIN}"], 1, "names 0 images of the template; expected one of team/tuneline/base"),
        (["--registry", "team", "--digests", "list.json"], 1, "expected one JSON object"),
        (["--registry", "team", "--digests", "broken.json"], 1, "is not JSON"),
        (["--registry", "team", "--digests", "nowhere.json"], 1, "no such file"),
    ],
)
def test_what_cannot_be_retargeted_writes_nothing(tuneline: Tuneline, flags: list[str], code: int, message: str) -> None:
    Path("list.json").write_text("[]")
    Path("broken.json").write_text("{")
    assert message in tuneline("retarget", NAME, *flags, "-o", "out.yaml", code=code)
    assert not Path("out.yaml").exists()


def test_a_template_goes_from_one_team_to_another(fake: FakeRepository, tuneline: Tuneline) -> None:
    tuneline("retarget", NAME, "--registry", "localhost:5000/team", "-o", "mine.yaml")
    sent = tuneline.json("publish", "mine.yaml", "--to", fake.url)
    digest = templates.load("mine.yaml").digest
    assert sent == {
        "name": NAME,
        "version": __version__,
        "digest": digest,
        "uri": f"{fake.url}/{NAME}/{digest}",
        "dry_run": False,
        "tags": {__version__: digest, "latest": digest},
        "changed": True,
    }
    assert tuneline("pull", f"{fake.url}/{NAME}/{__version__}") == f"{NAME}.yaml: {sent['uri']}\n"
    assert Path(f"{NAME}.yaml").read_bytes() == Path("mine.yaml").read_bytes()
    got = tuneline.json("pull", sent["uri"], "-o", "folder/yours.yaml")
    assert got == {"file": "folder/yours.yaml", "name": NAME, "version": __version__, "digest": digest, "uri": sent["uri"]}
    assert Path("folder/yours.yaml").read_bytes() == Path("mine.yaml").read_bytes()


def test_publishing_twice_says_that_there_was_nothing_to_do(fake: FakeRepository, tuneline: Tuneline) -> None:
    assert tuneline("publish", NAME, "--to", fake.url + "/").splitlines() == [
        f"Published {fake.url}/{NAME}/{DIGEST}",
        f"{fake.url}/{NAME}/{__version__}",
        f"{fake.url}/{NAME}/latest",
    ]
    assert tuneline("publish", NAME, "--to", fake.url).startswith("Nothing to do: published already is ")
    assert tuneline.json("publish", NAME, "--to", fake.url)["changed"] is False


def test_a_version_tag_does_not_move(fake: FakeRepository, tuneline: Tuneline) -> None:
    tuneline("publish", NAME, "--to", fake.url)
    tuneline("retarget", NAME, "--registry", "team", "-o", "other.yaml")
    refused = tuneline("publish", "other.yaml", "--to", fake.url, code=1)
    assert f"{fake.url}/{NAME}/{__version__} stands for {DIGEST}; found other content to publish" in refused
    tuneline("publish", "other.yaml", "--to", fake.url, "--tag", "team-1", "--tag", "latest")
    assert fake.tags[NAME] == {__version__: DIGEST, "team-1": templates.load("other.yaml").digest, "latest": templates.load("other.yaml").digest}
    assert f"{fake.url}/{NAME}/latest stands for {templates.load('other.yaml').digest}" in tuneline("publish", NAME, "--to", fake.url)


def test_a_dry_run_asks_nobody(fake: FakeRepository, tuneline: Tuneline) -> None:
    lines = tuneline("publish", NAME, "--to", fake.url, "--tag", "a", "--dry-run").splitlines()
    assert lines[0] == f"Would publish {fake.url}/{NAME}/{DIGEST}"
    assert lines[1].endswith("bytes, under a. Nothing was sent, and nobody was asked.")
    answer = tuneline.json("publish", NAME, "--to", fake.url, "--dry-run")
    assert (answer["tags"], answer["changed"], answer["dry_run"]) == (dict.fromkeys((__version__, "latest"), DIGEST), False, True)
    assert fake.requests == []


def test_a_repository_is_listed_newest_first(fake: FakeRepository, tuneline: Tuneline) -> None:
    assert tuneline("list", "--from", fake.url) == ""
    tuneline("publish", "tune-large-chat-model", "--to", fake.url)
    tuneline("publish", NAME, "--to", fake.url)
    lines = tuneline("list", "--from", fake.url).splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["NAME", "DIGEST"],
        ["tune-large-chat-model", templates.load("tune-large-chat-model").digest],
        [NAME, DIGEST],
    ]
    assert lines[2].endswith(f"{__version__}, latest  2026-11-28 10:00:01")
    answer = tuneline.json("list", "--from", fake.url)
    assert answer["complete"] is False  # only of Artifact Registry it is known how long a list may be
    assert answer["templates"][1] == {
        "name": NAME,
        "digest": DIGEST,
        "tags": [__version__, "latest"],
        "create_time": "2026-11-28T10:00:01Z",
        "uri": f"{fake.url}/{NAME}/{DIGEST}",
    }


def test_a_pulled_file_takes_no_others_place_unless_it_is_named(fake: FakeRepository, tuneline: Tuneline) -> None:
    tuneline("publish", NAME, "--to", fake.url)
    Path(f"{NAME}.yaml").write_text("mine")
    assert "with other content" in tuneline("pull", f"{fake.url}/{NAME}/latest", code=1)
    assert Path(f"{NAME}.yaml").read_text() == "mine"
    tuneline("pull", f"{fake.url}/{NAME}/latest", "-o", f"{NAME}.yaml")
    tuneline("pull", f"{fake.url}/{NAME}/latest")


def test_what_is_no_pipeline_is_not_written(fake: FakeRepository, tuneline: Tuneline) -> None:
    fake.versions["other"] = {templates.digest_of(b"name: x\n"): b"name: x\n"}
    assert "is not a compiled pipeline" in tuneline("pull", f"{fake.url}/other/{templates.digest_of(b'name: x' + bytes([10]))}", code=1)
    assert not Path("other.yaml").exists()


def test_a_template_of_unknown_version_needs_a_tag(fake: FakeRepository, tuneline: Tuneline) -> None:
    text = templates.load(NAME).text.replace(f"Tuneline\n    {__version__}", "").replace("tuneline/", "others/")
    Path("foreign.yaml").write_text(text)
    assert "--tag TAG" in tuneline("publish", "foreign.yaml", "--to", fake.url, code=2)
    assert "version  unknown" in tuneline("show", "foreign.yaml")
    assert tuneline.json("publish", "foreign.yaml", "--to", fake.url, "--tag", "1")["tags"] == {"1": templates.load("foreign.yaml").digest}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["publish", NAME, "--to", "https://europe-docker.pkg.dev/p/r"], "is no repository of templates"),
        (["publish", NAME, "--to", "http://example.com/p/r"], "is no repository of templates"),
        (["publish", NAME, "--to", "https://europe-kfp.pkg.dev/p"], "is no repository of templates"),
        (["publish", NAME, "--to", "https://europe-kfp.pkg.dev/p/r", "--tag", "a b"], "'a b' is no tag"),
        (["publish", NAME, "--to", "https://europe-kfp.pkg.dev/p/r", "--tag", "a/b"], "'a/b' is no tag"),
        (["list", "--from", "europe-kfp.pkg.dev/p/r"], "is no repository of templates"),
    ],
)
def test_flags_that_make_no_sense_are_usage_errors(tuneline: Tuneline, arguments: list[str], message: str) -> None:
    assert message in tuneline(*arguments, code=2)


@pytest.mark.parametrize(("status", "code"), [(403, 1), (404, 1), (429, 13), (503, 13)])
def test_refusals_have_the_exit_codes_of_their_kind(fake: FakeRepository, tuneline: Tuneline, status: int, code: int) -> None:
    fake.meddle = failing("GET", "", (status, b""))
    for arguments in (["list", "--from", fake.url], ["pull", f"{fake.url}/{NAME}/latest"]):
        tuneline(*arguments, code=code)
    fake.meddle = failing("POST", "", (status, b""))
    tuneline("publish", NAME, "--to", fake.url, code=code)


def test_other_commands_take_a_repositorys_template(fake: FakeRepository, tuneline: Tuneline, capsys: pytest.CaptureFixture[str]) -> None:
    tuneline("publish", NAME, "--to", fake.url)
    uri = f"{fake.url}/{NAME}/latest"
    assert main(["explain", uri, "--pipeline-region", "europe-west4"]) == 0
    assert capsys.readouterr().err.startswith(f"{uri} is {DIGEST}\n")
    assert main(["run", uri, "--help"]) == 0
    assert f"parameters of {NAME}:" in capsys.readouterr().out
    assert main(["schedule", "create", uri, "--help"]) == 0
    assert f"parameters of {NAME}:" in capsys.readouterr().out
