"""Publishing and pulling, against a repository on 127.0.0.1: what a tag stands for is known, checked, and stays."""

import json
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fake_template_repository import API, PLACE, Answer, FakeRepository, failing, service_account, serving
from tuneline.errors import InfrastructureError, NotFoundError, TemplateError, TunelineError, UserError
from tuneline.publishing import LATEST, Publication, publish, pull
from tuneline.template_repository import LISTS, Address, connect, read_address
from tuneline.templates import digest_of

NAME = "small"
TAGS = ("0.1.0", LATEST)
HTML = (200, b"<html>Sign in</html>")


def content(text: str) -> bytes:
    return f"pipelineInfo: {{name: {NAME}}}\nroot: {{}}\ndeploymentSpec: {{}}\ncomponents: {{}}\n# {text}\n".encode()


OLD, NEW = content("old"), content("new")


@pytest.fixture(autouse=True)
def no_files_of_kfp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_REGISTRY_CONTEXT", "LOCAL_REGISTRY_CREDENTIAL"):
        monkeypatch.setattr(f"kfp.registry.registry_client.{name}", str(tmp_path / name))


@pytest.fixture
def fake() -> Iterator[FakeRepository]:
    with serving(FakeRepository()) as repository:
        yield repository


def published(fake: FakeRepository, what: bytes = OLD, tags: tuple[str, ...] = TAGS) -> Publication:
    return publish(connect(fake.url), NAME, what, tags)


def tags(fake: FakeRepository) -> dict[str, bytes]:
    """Tag -> content that it stands for."""
    return {tag: fake.versions[NAME][digest] for tag, digest in fake.tags.get(NAME, {}).items()}


def address(fake: FakeRepository, reference: str) -> Address:
    return read_address(f"{fake.url}/{NAME}/{reference}")


def test_what_was_published_is_pulled_to_the_byte_by_tag_and_by_version(fake: FakeRepository) -> None:
    done = published(fake)
    assert (str(done.address), done.changed) == (f"{fake.url}/{NAME}/{digest_of(OLD)}", True)
    assert done.tags == dict.fromkeys(TAGS, digest_of(OLD))
    for reference in (*TAGS, digest_of(OLD)):
        assert pull(address(fake, reference)) == (done.address, OLD)


def test_no_tag_is_put_on_content_before_it_was_read_back(fake: FakeRepository) -> None:
    published(fake)
    changing = [request for request in fake.requests if not request.startswith("GET") or request.endswith(digest_of(OLD))]
    assert changing == [f"POST {PLACE}", f"GET {PLACE}/{NAME}/{digest_of(OLD)}", *[f"POST {PLACE}/packages/{NAME}/tags"] * 2]


def test_the_same_content_again_changes_nothing(fake: FakeRepository) -> None:
    published(fake)
    published(fake, NEW, ("0.2.0", LATEST))
    del fake.requests[:]
    again = published(fake)
    assert again.changed is False
    assert again.tags == {"0.1.0": digest_of(OLD), LATEST: digest_of(NEW)}
    assert {request.split()[0] for request in fake.requests} == {"GET"}


def test_other_content_under_a_version_tag_is_refused_and_not_sent(fake: FakeRepository) -> None:
    published(fake)
    with pytest.raises(TemplateError) as caught:
        published(fake, NEW, ("0.1.0", "stable", LATEST))
    assert f"{fake.url}/{NAME}/0.1.0 stands for {digest_of(OLD)}; found other content to publish, {digest_of(NEW)}." in str(caught.value)
    assert "--tag TAG" in caught.value.next_action
    assert "Nothing was sent." in caught.value.next_action
    assert tags(fake) == dict.fromkeys(TAGS, OLD)
    assert list(fake.versions[NAME]) == [digest_of(OLD)]


def test_latest_moves_with_the_next_version_and_alone(fake: FakeRepository) -> None:
    published(fake)
    published(fake, NEW, ("0.2.0", LATEST))
    assert tags(fake) == {"0.1.0": OLD, "0.2.0": NEW, LATEST: NEW}
    assert published(fake, OLD, (LATEST,)).changed is True
    assert tags(fake) == {"0.1.0": OLD, "0.2.0": NEW, LATEST: OLD}
    assert published(fake, OLD, (LATEST,)).changed is False


def test_of_two_who_publish_different_content_under_one_tag_exactly_one_wins(fake: FakeRepository) -> None:
    rounds = 10
    both_sent = threading.Barrier(2)  # neither could see the other's tag before it sent its own content

    def meddle(method: str, path: str) -> None:
        if (method, path) == ("POST", PLACE):
            both_sent.wait(timeout=30)

    def attempt(what: bytes, tag: str) -> bytes | TemplateError:
        try:
            published(fake, what, (tag, LATEST))
        except TemplateError as error:
            return error
        return what

    fake.meddle = meddle
    with ThreadPoolExecutor(2) as threads:
        for number in range(rounds):
            contents = [content(f"{number} of {one}") for one in ("me", "you")]
            results = list(threads.map(attempt, contents, [f"0.{number}.0"] * 2))
            [winner], [refused] = [one for one in results if isinstance(one, bytes)], [one for one in results if isinstance(one, TemplateError)]
            loser = next(one for one in contents if one != winner)
            assert tags(fake)[f"0.{number}.0"] == tags(fake)[LATEST] == winner
            assert f"What was sent lies there as {digest_of(loser)}, without that tag." in refused.next_action
    assert len(tags(fake)) == rounds + 1


def test_where_tags_can_be_overwritten_the_one_who_lost_the_tag_is_told(fake: FakeRepository) -> None:
    fake.tags_are_overwritten = True
    looks = iter(range(9))

    def meddle(method: str, path: str) -> None:
        if method == "GET" and path.endswith("/tags/0.1.0") and next(looks) == 1:  # the look after the tag was made
            fake.versions[NAME][digest_of(NEW)] = NEW
            fake.tags[NAME]["0.1.0"] = digest_of(NEW)

    fake.meddle = meddle
    with pytest.raises(TemplateError, match=f"stands for {digest_of(NEW)}"):
        published(fake)
    assert LATEST not in tags(fake)


def test_a_tag_is_there_though_the_answer_to_its_creation_got_lost(fake: FakeRepository) -> None:
    def meddle(method: str, path: str) -> Answer | None:
        if (method, path) == ("POST", f"{PLACE}/packages/{NAME}/tags") and "0.1.0" not in fake.tags.get(NAME, {}):
            fake.tags.setdefault(NAME, {})["0.1.0"] = digest_of(OLD)
            return 503, b""
        return None

    fake.meddle = meddle
    assert published(fake).changed is True
    assert tags(fake) == dict.fromkeys(TAGS, OLD)


def test_after_a_failure_the_same_call_goes_on(fake: FakeRepository) -> None:
    for path in (PLACE, f"{PLACE}/packages/{NAME}/tags"):
        fake.meddle = failing("POST", path, (503, b""))
        with pytest.raises(InfrastructureError, match="503"):
            published(fake)
        assert tags(fake) == {}
    fake.meddle = lambda method, path: None
    assert published(fake).changed is True
    assert tags(fake) == dict.fromkeys(TAGS, OLD)


def test_when_only_latest_fails_it_is_told_how_to_move_it(fake: FakeRepository) -> None:
    published(fake)
    fake.meddle = failing("PATCH", f"/tags/{LATEST}", (503, b""))
    with pytest.raises(InfrastructureError) as caught:
        published(fake, NEW, ("0.2.0", LATEST))
    assert caught.value.next_action == "0.2.0 is published; latest is left. Publish again with --tag latest alone."
    assert tags(fake) == {"0.1.0": OLD, "0.2.0": NEW, LATEST: OLD}


def test_content_that_does_not_hash_to_its_version_is_refused(fake: FakeRepository) -> None:
    published(fake)
    fake.meddle = failing("GET", digest_of(OLD), (200, NEW))
    with pytest.raises(InfrastructureError, match=digest_of(NEW)):
        pull(address(fake, LATEST))
    with pytest.raises(InfrastructureError, match=digest_of(NEW)):
        published(fake, OLD, ("0.1.1",))
    assert "0.1.1" not in tags(fake)


@pytest.mark.parametrize("reference", ["0.9.0", f"sha256:{'0' * 64}"])
def test_what_is_not_there_is_told(fake: FakeRepository, reference: str) -> None:
    with pytest.raises(NotFoundError, match=reference):
        pull(address(fake, reference))


STATUSES = [(400, 1), (401, 1), (403, 1), (404, 1), (409, 1), (408, 13), (429, 13), (500, 13), (502, 13), (503, 13)]


@pytest.mark.parametrize(("status", "exit_code"), STATUSES)
def test_each_refusal_has_its_exit_code_and_what_was_said(fake: FakeRepository, status: int, exit_code: int) -> None:
    published(fake)
    said = json.dumps({"error": {"message": "because\nof this"}}).encode()
    attempts = {
        ("POST", PLACE): lambda: published(fake, NEW, ("0.2.0",)),
        ("POST", "/tags"): lambda: published(fake, NEW, ("0.2.0",)),
        ("PATCH", "/latest"): lambda: published(fake, NEW, (LATEST,)),
        ("GET", digest_of(OLD)): lambda: pull(address(fake, digest_of(OLD))),
        ("GET", "/packages"): lambda: connect(fake.url).listing(),
    }
    for (method, path_end), attempt in attempts.items():
        fake.meddle = failing(method, path_end, (status, said))
        with pytest.raises(TunelineError) as caught:
            attempt()
        assert caught.value.exit_code == exit_code
        assert f"answered {status} (because of this)" in str(caught.value)
    assert tags(fake) == dict.fromkeys(TAGS, OLD)


RECORDS = [HTML, (200, b""), (200, b"[]"), (200, b"null"), (200, b"{}"), (200, b'{"version": 3}'), (200, b'{"version": "versions/1"}'), (200, b"\xff\xfe")]


@pytest.mark.parametrize("answer", RECORDS, ids=str)
def test_a_malformed_tag_is_an_error_of_the_repository(fake: FakeRepository, answer: Answer) -> None:
    fake.meddle = failing("GET", "/tags/0.1.0", answer)
    with pytest.raises(InfrastructureError, match="not a template repository's"):
        published(fake)
    with pytest.raises(InfrastructureError, match="not a template repository's"):
        pull(address(fake, "0.1.0"))


@pytest.mark.parametrize("answer", [HTML, (200, b""), (200, b"small"), (200, b"small/sha256:12"), (200, b"a/b/c"), (200, b"\xff")], ids=str)
def test_a_malformed_answer_to_an_upload_leaves_no_tag(fake: FakeRepository, answer: Answer) -> None:
    fake.meddle = failing("POST", PLACE, answer)
    with pytest.raises(InfrastructureError):
        published(fake)
    assert fake.tags == {}


@pytest.mark.parametrize("answer", [HTML, (200, b"[]"), (200, b"null"), (200, b'{"packages": 3}'), (200, b'{"packages": [3]}'), (200, b'{"packages": [{}]}')])
def test_a_malformed_list_is_an_error_of_the_repository(fake: FakeRepository, answer: Answer) -> None:
    fake.meddle = failing("GET", "/packages", answer)
    with pytest.raises(InfrastructureError, match="not a template repository's"):
        connect(fake.url).listing()


def test_a_tag_that_is_made_and_not_there_is_an_error_of_the_repository(fake: FakeRepository) -> None:
    fake.meddle = failing("POST", "/tags", (200, b"{}"))
    with pytest.raises(InfrastructureError, match="made the tag, and does not have it"):
        published(fake)


def test_nobody_at_the_address_is_infrastructure() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/{PLACE}"
        with pytest.raises(InfrastructureError, match="cannot be reached"):
            connect(url).listing()


def test_without_kfp_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kfp.registry", None)
    with pytest.raises(UserError) as caught:
        connect("http://127.0.0.1:9/a")
    assert "tuneline[kfp]" in caught.value.next_action


def test_artifact_registry_is_asked_with_google_credentials_and_for_whole_lists(fake: FakeRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kfp.registry import registry_client

    fake.token = "a-token"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(service_account(fake, tmp_path)))
    known = json.loads((Path(registry_client.__file__).parent / "context" / "kfp_pkg_dev.json").read_text()) | LISTS
    server = f"http://127.0.0.1:{fake.port}"
    here = {key: text.replace("{host}", fake.url).replace("https://artifactregistry.googleapis.com", server) for key, text in known.items()}
    repository = connect("https://europe-kfp.pkg.dev/my-project/templates", lists=here)
    for number in range(fake.page_size + 1):
        publish(repository, NAME, content(str(number)), (f"0.{number}.0", LATEST))
    listing = repository.listing()
    assert [(entry.address.reference, entry.tags) for entry in listing.entries] == [
        (digest_of(content("2")), ("0.2.0", LATEST)),
        (digest_of(content("1")), ("0.1.0",)),
        (digest_of(content("0")), ("0.0.0",)),
    ]
    assert str(listing.entries[0].address) == f"https://europe-kfp.pkg.dev/my-project/templates/{NAME}/{digest_of(content('2'))}"
    assert f"POST {API}/packages/{NAME}/tags" in fake.requests


def test_a_list_as_long_as_a_page_is_not_called_complete(fake: FakeRepository) -> None:
    published(fake)
    repository = connect(fake.url)
    assert replace(repository, page_size=len(TAGS) + 1).listing().complete is True
    assert replace(repository, page_size=len(TAGS)).listing().complete is False
    assert repository.listing().complete is False  # nobody says how long its lists may be


def test_missing_google_credentials_are_the_users_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere.json"))
    with pytest.raises(UserError, match="no usable Google credentials") as caught:
        connect("https://europe-kfp.pkg.dev/my-project/templates")
    assert caught.value.next_action == "Log in: gcloud auth application-default login"


def test_files_of_kfp_that_cannot_be_read_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "LOCAL_REGISTRY_CONTEXT").write_text("{")
    with pytest.raises(UserError, match=r"~/\.config/kfp"):
        connect("http://127.0.0.1:9/a")


@pytest.mark.parametrize(
    "uri",
    [
        "gs://bucket/template.yaml",
        "https://example.com",
        "https://europe-kfp.pkg.dev/project/repository/name",
        "https://europe-kfp.pkg.dev/project/repository/more/name/tag",
        "https://europe-kfp.pkg.dev@example.com/project/repository/name/tag",
        "https://user:secret@example.com/repository/name/tag",
        "https://europe-docker.pkg.dev/project/repository/name/tag",
        "http://example.com/repository/name/tag",
        "https://europe-kfp.pkg.dev/project/repository/name/sha256:12",
        "https://europe-kfp.pkg.dev/project/../name/tag",
        "https://europe-kfp.pkg.dev/project/repository/na{me}/tag",
        "https://europe-kfp.pkg.dev/project/repository/name/tag?a=b",
        "https://europe-kfp.pkg.dev/project/repository/name/tag\n",
    ],
)
def test_what_is_no_address_is_refused(uri: str) -> None:
    with pytest.raises(TemplateError, match="is no template in a repository"):
        read_address(uri)


def test_addresses_of_both_kinds_are_read() -> None:
    found = read_address(f"https://us-central1-kfp.pkg.dev/example.com:project/repository/tune-large-model/{digest_of(OLD)}")
    assert (found.repository, found.name, found.reference) == (
        "https://us-central1-kfp.pkg.dev/example.com:project/repository",
        "tune-large-model",
        digest_of(OLD),
    )
    assert str(read_address("https://templates.example.com/name/v1")) == "https://templates.example.com/name/v1"
