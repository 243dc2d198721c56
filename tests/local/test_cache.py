import json
import shutil
from pathlib import Path

import pytest

from tests.local.fake_pipelines import Fake, From, template
from tuneline.local.artifacts import ContentDigests, artifact_path
from tuneline.local.engine import Options, run
from tuneline.local.run_record import RunRecord
from tuneline.templates import Template

READ = "import hashlib; open(given['fingerprint'], 'w').write(hashlib.sha256(open(given['uri'], 'rb').read()).hexdigest())"
MAKE = "os.mkdir(given['data']); open(given['data'] + '/rows', 'w').write(open(given['uri']).read().upper()); open(given['seen'], 'a').write('x')"
USE = "open(given['model'], 'w').write(open(given['data'] + '/rows').read()[:3] + given['steps']); open(given['seen'], 'a').write('y')"


def pipeline(folder: Path) -> Template:
    """As in the real one: a task that is never cached fingerprints the data; the others depend on the fingerprint."""
    return template(
        {
            "check": Fake(script=READ, takes={"uri": From("uri")}, puts={"fingerprint": "STRING"}),
            "make": Fake(
                script=MAKE,
                takes={"uri": From("uri"), "fingerprint": From("check.fingerprint"), "seen": str(folder / "seen")},
                makes={"data": "system.Dataset"},
                cached=True,
            ),
            "use": Fake(
                script=USE,
                takes={"steps": From("steps", "NUMBER_INTEGER"), "seen": str(folder / "seen")},
                reads={"data": "make.data"},
                makes={"model": "system.Model"},
                cached=True,
            ),
        },
        inputs={"uri": str, "steps": 3},
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("abc", encoding="utf-8")
    return path


def go(tmp_path: Path, data: Path, **parameters: object) -> tuple[RunRecord, str]:
    """A run, and the states of its tasks in short: `S` ran, `-` cached."""
    options = Options(caching=bool(parameters.pop("caching", True)))
    record = run(pipeline(tmp_path), {"uri": str(data), **parameters}, runs_dir=tmp_path / "runs", options=options)
    return record, "".join("-" if task.cached_from else str(task.state)[0] for task in record.tasks.values())


def test_the_same_inputs_are_not_worked_on_twice(tmp_path: Path, data: Path) -> None:
    first, states = go(tmp_path, data)
    assert states == "SSS"
    second, states = go(tmp_path, data)
    assert states == "S--"
    assert [str(task.state) for task in second.tasks.values()] == ["SUCCEEDED", "SKIPPED", "SKIPPED"]
    assert second.tasks["use"].outputs == first.tasks["use"].outputs
    assert second.tasks["use"].cached_from == first.name
    assert (tmp_path / "seen").read_text() == "xy"


def test_new_bytes_behind_the_same_uri_run_again(tmp_path: Path, data: Path) -> None:
    go(tmp_path, data)
    data.write_text("abd", encoding="utf-8")
    assert go(tmp_path, data)[1] == "SSS"
    data.write_text("abc", encoding="utf-8")
    assert go(tmp_path, data)[1] == "S--"


def test_another_value_runs_only_what_reads_it(tmp_path: Path, data: Path) -> None:
    go(tmp_path, data)
    assert go(tmp_path, data, steps=4)[1] == "S-S"


def test_an_input_with_the_same_content_is_the_same_input(tmp_path: Path, data: Path) -> None:
    go(tmp_path, data)
    data.write_text("ABC", encoding="utf-8")  # `make` writes the same upper-case rows, from another fingerprint
    assert go(tmp_path, data)[1] == "SS-"


def test_caching_can_be_turned_off(tmp_path: Path, data: Path) -> None:
    go(tmp_path, data)
    assert go(tmp_path, data, caching=False)[1] == "SSS"


@pytest.mark.parametrize("damage", ["change", "add", "remove", "remove run"])
def test_outputs_that_are_no_longer_as_they_were_are_made_again(damage: str, tmp_path: Path, data: Path) -> None:
    folder = Path(go(tmp_path, data)[0].tasks["make"].outputs.artifacts["data"].uri)
    match damage:
        case "change":
            (folder / "rows").write_text("xyz")
        case "add":
            (folder / "more").touch()
        case "remove":
            (folder / "rows").unlink()
        case "remove run":
            shutil.rmtree(tmp_path / "runs")
    record, states = go(tmp_path, data)
    assert states[1] == "S"
    assert Path(record.tasks["use"].outputs.artifacts["model"].uri).read_text() == "ABC3"
    assert go(tmp_path, data)[1] == "S--"


def test_a_damaged_index_entry_is_no_hit(tmp_path: Path, data: Path, home: Path) -> None:
    go(tmp_path, data)
    entries = list((home / "cache").glob("*.json"))
    assert len(entries) == 2
    for entry in entries:
        entry.write_text("{")
    assert go(tmp_path, data)[1] == "SSS"


def test_another_image_or_command_is_another_task(tmp_path: Path, data: Path, home: Path) -> None:
    def states_with(script: str, image: str) -> str:
        fake = template({"t": Fake(script=script, makes={"out": "system.Artifact"}, cached=True)})
        executor = json.loads(json.dumps(fake.spec["deploymentSpec"]))
        executor["executors"]["exec-t"]["container"]["image"] = image
        changed = Template(name=fake.name, spec={**fake.spec, "deploymentSpec": executor}, inputs=fake.inputs)
        return str(run(changed, {}, runs_dir=tmp_path / "runs").tasks["t"].state)

    write = "open(given['out'], 'w').write('1')"
    found = [states_with(write, "a:1"), states_with(write, "a:1"), states_with(write, "a:2"), states_with(write + "; 1", "a:1")]
    assert found == ["SUCCEEDED", "SKIPPED", "SUCCEEDED", "SUCCEEDED"]


def test_a_task_that_names_the_run_is_another_task_in_another_run(tmp_path: Path) -> None:
    fake = template({"t": Fake(script="", takes={"job": "{{$.pipeline_job_name}}"}, cached=True, environment={"JOB": "{{$.pipeline_job_name}}"})})
    assert [str(run(fake, {}, runs_dir=tmp_path).tasks["t"].state) for _ in range(2)] == ["SUCCEEDED", "SUCCEEDED"]


def test_failures_and_outputs_elsewhere_are_not_kept(tmp_path: Path, home: Path) -> None:
    told = json.dumps({"artifacts": {"out": {"artifacts": [{"uri": "gs://b/x"}]}}})
    remote = Fake(script=f"open(given['executor_output'], 'w').write({told!r})", makes={"out": "system.Artifact"}, cached=True)
    run(template({"remote": remote, "bad": Fake(script="sys.exit(1)", cached=True, after=["remote"])}), {}, runs_dir=tmp_path / "runs")
    assert not (home / "cache").exists()


def test_digests_follow_content_not_places(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner/x").write_text("x")
    digests = ContentDigests()
    before = digests.of(str(tmp_path / "one"))
    assert before == digests.of(str(tmp_path / "two"))
    (tmp_path / "two/inner/x").rename(tmp_path / "two/inner/y")
    assert before != digests.of(str(tmp_path / "two"))
    assert digests.of(str(tmp_path / "one/inner/x")) != before
    assert digests.of(str(tmp_path / "nowhere")) is None
    assert digests.of("gs://bucket/x") is None


def test_a_link_counts_as_what_it_shows(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/x").write_text("x")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/x").symlink_to(tmp_path / "real/x")
    digests = ContentDigests()
    assert digests.of(str(tmp_path / "linked")) == digests.of(str(tmp_path / "real"))
    (tmp_path / "linked/gone").symlink_to(tmp_path / "nothing")
    assert digests.of(str(tmp_path / "linked")) != digests.of(str(tmp_path / "real"))


@pytest.mark.parametrize(("uri", "path"), [("/a/b", "/a/b"), ("gs://a/b", "/gcs/a/b"), ("s3://a/b", "/s3/a/b"), ("file:///a/b", "/a/b")])
def test_uris_lie_where_kfp_mounts_them(uri: str, path: str) -> None:
    assert artifact_path(uri) == path


def test_buckets_may_lie_in_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNELINE_GCS_FOLDER", "/buckets/")
    assert [artifact_path(uri) for uri in ("gs://a/b", "s3://a/b", "/a/b")] == ["/buckets/a/b", "/s3/a/b", "/a/b"]
