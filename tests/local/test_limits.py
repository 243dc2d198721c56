import pytest

from tuneline.local.limits import Limits, cpu_count, memory_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000),
        ("64M", 64_000_000),
        ("8Gi", 8 << 30),
        ("0.5Gi", 1 << 29),
        ("1.5G", 1_500_000_000),
        ("8g", 8 << 30),
        ("512m", 512 << 20),
        ("1b", 1),
        ("2Ti", 2 << 40),
        ("0.064G", 64_000_000),
    ],
)
def test_memory_is_written_as_kubernetes_and_as_docker_do(text: str, size: int) -> None:
    assert memory_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "8GB", "many", "1 Gi", "0.1b", "1e3", "8gi"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size of memory like 8Gi"):
        memory_bytes(text)


@pytest.mark.parametrize(("text", "count"), [("2", 2.0), ("1.5", 1.5), ("500m", 0.5)])
def test_processors_may_be_parts(text: str, count: float) -> None:
    assert cpu_count(text) == count


@pytest.mark.parametrize("text", ["", "0", "0m", "-1", "2cpus", "1k", "inf", "nan"])
def test_what_is_no_number_of_processors_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number of processors"):
        cpu_count(text)


def test_a_limit_that_is_asked_for_comes_before_the_template_s() -> None:
    assert Limits(memory_bytes=5).over(Limits(memory_bytes=7, cpus=2.0)) == Limits(memory_bytes=5, cpus=2.0)
