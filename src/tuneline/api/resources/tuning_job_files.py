"""What lies at the URIs of a request: data files and the folder for the results. Everything wrong with them becomes a problem of its field."""

import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from tuneline.data.data_files import local_path, open_data
from tuneline.data.formats import read_object
from tuneline.data.json_lines import UNREADABLE, decode, read_lines
from tuneline.errors import UserError
from tuneline.modeling.checkpoints import FINAL, LAYOUT
from tuneline.storage import Storage, join

CHUNK_BYTES = 1 << 20
LOOKED_AT = 100
"""Lines that are read for one that shows the format."""


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A file of examples, as far as one look tells. Its lines are checked by the job, which names all that are wrong."""

    examples: int
    data_format: str
    """Empty when the first lines have none."""


def look_at(field: str, uri: str, problems: list[str]) -> DataFile | None:
    """Count the examples; nothing, and the reason in `problems`, for what is no file."""
    if uri.startswith("projects/"):
        problems.append(f"{field}: found {uri!r}; managed datasets are not available. Export it as JSONL and give the file's URI.")
        return None
    if not is_absolute(field, uri, problems):
        return None
    path = local_path(uri)
    if path is not None and path.exists() and not path.is_file():  # a pipe or a device may never end
        problems.append(f"{field}: {uri} is no file; expected a JSONL file.")
        return None
    if path is not None and path.is_file() and not path.stat().st_size:  # empty, as it seems: some of /proc never end
        return DataFile(examples=0, data_format="")
    try:
        with open_data(uri) as stream:
            data_format = _format(stream)
            stream.seek(0)
            return DataFile(examples=_count_lines(stream), data_format=data_format)
    except UserError as error:
        problems.append(f"{field}: {error} {error.next_action}".rstrip())
        return None


def check_output(field: str, uri: str, problems: list[str]) -> None:
    """Whether checkpoints can be written below a URI."""
    if not is_absolute(field, uri, problems):
        return
    final = join(uri, f"{LAYOUT.as_posix()}/{FINAL}")
    path = local_path(uri)
    if path is not None:
        there = next(folder for folder in (path, *path.parents) if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            problems.append(f"{field}: {there} is no folder that can be written. Give another one.")
        elif Path(str(local_path(final))).exists():
            problems.append(_taken(field, final))
        return
    try:
        bucket = "/".join(uri.split("/")[:3])
        if not Storage().exists(bucket):
            problems.append(f"{field}: there is no bucket {bucket}. Make it first, or give another one.")
        elif Storage().exists(final):
            problems.append(_taken(field, final))
    except UserError as error:
        problems.append(f"{field}: {error} {error.next_action}".rstrip())


def is_absolute(field: str, uri: str, problems: list[str]) -> bool:
    """A relative path would mean another place for the service, its jobs and the client."""
    path = local_path(uri)
    if "\0" in uri:
        problems.append(f"{field}: found {uri!r}, which no file can be called.")
        return False
    if path is not None and not path.is_absolute():
        problems.append(f"{field}: found {uri!r}; expected a gs:// URI or an absolute path.")
        return False
    return True


def _taken(field: str, final: str) -> str:
    return f"{field}: {final} holds another job's model. Give another folder, or delete that one."


def _format(stream: IO[bytes]) -> str:
    """The format of the first line that has one."""
    for line in islice(read_lines(stream), LOOKED_AT):
        value = decode(line).value
        if value is not UNREADABLE and (found := read_object(value).data_format):
            return found
    return ""


def _count_lines(stream: IO[bytes]) -> int:
    """Lines of a file, in constant memory. Each is an example: the job refuses blank ones."""
    count, last = 0, b"\n"
    while chunk := stream.read(CHUNK_BYTES):
        count += chunk.count(b"\n")
        last = chunk[-1:]
    return count + (last != b"\n")
