"""Opens a data file for reading, on this machine or at a gs:// URI."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tuneline.errors import DatasetError, InfrastructureError


def local_path(uri: str) -> Path | None:
    """The path of a file of this machine, or nothing for another URI."""
    if uri.startswith("file://"):
        return Path(uri.removeprefix("file://"))
    return None if "://" in uri else Path(uri)


@contextmanager
def open_data(uri: str) -> Iterator[IO[bytes]]:
    """The file's bytes, for streaming."""
    path = local_path(uri)
    if path is None:
        from tuneline.storage import Storage  # fsspec is not needed for local files

        with Storage().open(uri) as remote:
            yield remote
        return
    try:
        local = path.open("rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DatasetError(f"{uri}: no such file.", next_action="Check the spelling, and that it lies where this job runs.") from error
    except IsADirectoryError as error:
        raise DatasetError(f"{uri} is a folder; expected a JSONL file.", next_action="Give the file itself.") from error
    except (PermissionError, ValueError) as error:
        raise DatasetError(f"{uri}: cannot be opened.", next_action="Check its name and that this account may read it.") from error
    except OSError as error:
        raise InfrastructureError(f"{uri}: {error.strerror}.", next_action="Try again.") from error
    with local:
        yield local
