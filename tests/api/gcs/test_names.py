"""Names: which are refused, and which objects lie at the path of their name."""

import pytest

from tuneline.api.gcs.faults import StorageFault
from tuneline.api.gcs.names import check_object_name, is_bucket_name, path_of


@pytest.mark.parametrize("name", ["abc", "my-bucket", "a_b", "0ab", "google-cloud-aiplatform", "example.com", "a" * 63, ".".join(["a" * 60] * 3)])
def test_bucket_names_that_cloud_storage_takes_are_taken(name: str) -> None:
    assert is_bucket_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ab",
        "-abc",
        "abc-",
        "Abc",
        "a b c",
        "a/b",
        "..",
        "...",
        "a..b",
        ".tuneline",
        "127.0.0.1",
        "a" * 64,
        ".".join(["a" * 60] * 4),
        "büc",
        "abc\n",
        "abc\0",
    ],
)
def test_other_bucket_names_are_not(name: str) -> None:
    assert not is_bucket_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a\0b", "a\nb", "a\rb", "ü" * 513, ".well-known/acme-challenge/x", "\ud800"])
def test_object_names_that_cloud_storage_refuses_are_refused(name: str) -> None:
    with pytest.raises(StorageFault, match="Invalid object name") as caught:
        check_object_name(name)
    assert caught.value.code == 400


@pytest.mark.parametrize("name", ["a", "a/b", ".hidden", "..a/b..", "a b", "100%/x", "%2F", "ü/ñ", "\\", "C:/x", "~", "a" * 255])
def test_an_ordinary_name_is_a_path(name: str) -> None:
    check_object_name(name)
    assert path_of(name) == tuple(name.split("/"))


@pytest.mark.parametrize("name", ["a/", "/a", "a//b", "./a", "../a", "a/../../b", "a/.", "a" * 256, "ü" * 128, f".x.{'0' * 32}.part"])
def test_a_name_that_cannot_be_a_path_is_an_object_without_one(name: str) -> None:
    check_object_name(name)
    assert path_of(name) is None
