"""What of this machine a task in a container may see, and whether it may see the network: read from the run's parameters."""

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from tuneline.catalog import load_catalog
from tuneline.catalog.base_model import resolve_base_model
from tuneline.data.base_model import find_here
from tuneline.errors import TunelineError
from tuneline.local.artifacts import artifact_path
from tuneline.local.containers import Mount
from tuneline.templates import Json

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_URI_NAMES = ("_uri", "_dir")
_OUTPUT = "_output_"
_REGISTERING = ("tuneline.steps.upload_model", "tuneline.steps.deploy_model")
_COMPARING = tuple(f"tuneline.steps.{name}" for name in ("validate_parameters", "transform_dataset", "tune_model", "evaluate_model"))
"""Steps that look at earlier models, or read the champion's files."""
NETWORK_VARIABLES = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "GOOGLE_CLOUD_PROJECT"),
)
"""Handed on, when they are set, to a task that may use the network."""


def uris_of(parameters: Mapping[str, Json], *, downloads: Path) -> dict[str, str]:
    """The URIs and paths that a run's tasks will open: its parameters, and where the base model of a catalogue row lies."""
    uris = {name: value for name, value in parameters.items() if name.endswith(_URI_NAMES) and isinstance(value, str) and value}
    if "large_model_reference" in parameters and "base_model_uri" not in uris:
        uris["base_model_uri"] = _catalogued(parameters, uris.get("catalog_uri", ""))
    return {name: uri for name, uri in uris.items() if uri and not _is_downloaded(uri, downloads)}


def needs_network(uris: Mapping[str, str]) -> bool:
    """Whether any of them is on another machine."""
    return any(not _is_here(uri) for uri in uris.values())


def run_mounts(folder: Path, home: Path, uris: Mapping[str, str], command: Collection[str]) -> list[Mount]:
    """What a task of a run sees, whatever its inputs: the run, downloaded base models, what the parameters name, and the registry when it needs it.

    Folders that it writes to are created here, so that they are the caller's.
    """
    outputs = [Path(artifact_path(uri)) for name, uri in uris.items() if _OUTPUT in name and _is_path(uri)]
    registry = [home / "models"] if any(step in command for step in _REGISTERING) else []
    looked_at = [str(home / "models")] if any(step in command for step in _COMPARING) else []
    writable = [folder, home / "downloads", *registry, *outputs]
    for path in writable:
        path.mkdir(parents=True, exist_ok=True)
    return merged([*(Mount(str(path), writable=True) for path in writable), *readable([*looked_at, *uris.values()])])


def readable(uris: Iterable[str]) -> list[Mount]:
    """Those of the URIs that are files or folders of this machine. What is missing is the task's to tell."""
    paths = [artifact_path(uri) for uri in uris if _is_path(uri)]
    return [Mount(path) for path in paths if Path(path).is_file() or Path(path).is_dir()]


def merged(mounts: Sequence[Mount]) -> list[Mount]:
    """Each path once, writable if any mount of it is, outer folders first. The root of this machine is never mounted."""
    normal = [Mount(os.path.normpath(mount.path), mount.writable) for mount in mounts]
    writable = {mount.path for mount in normal if mount.writable}
    return [Mount(path, path in writable) for path in sorted({mount.path for mount in normal} - {"/"})]


def within(mounts: Sequence[Mount], path: str) -> bool:
    """Whether a path is seen through one of the mounts already."""
    return any(Path(path).is_relative_to(mount.path) for mount in mounts)


def credentials(uris: Iterable[str], environment: Mapping[str, str], user_home: Path) -> str:
    """The file with Google's application default credentials, when a gs:// URI is used and there is one."""
    if not any(uri.startswith("gs://") for uri in uris):
        return ""
    default = Path(environment.get("CLOUDSDK_CONFIG") or user_home / ".config" / "gcloud") / "application_default_credentials.json"
    file = Path(environment.get("GOOGLE_APPLICATION_CREDENTIALS") or default).absolute()
    return str(file) if file.is_file() else ""


def _catalogued(parameters: Mapping[str, Json], catalog_uri: str) -> str:
    """Where the base model lies that the reference means."""
    try:
        overlay = Path(artifact_path(catalog_uri)).read_text(encoding="utf-8") if catalog_uri and _is_path(catalog_uri) else None
        return resolve_base_model(load_catalog(overlay, catalog_uri), str(parameters["large_model_reference"])).resolved.uri
    except (TunelineError, OSError, UnicodeDecodeError):  # validate-parameters tells what is wrong with them
        return ""


def _is_downloaded(uri: str, downloads: Path) -> bool:
    try:
        return uri.startswith("hf://") and find_here(uri, downloads=downloads) is not None
    except TunelineError:  # no such name; the task tells
        return False


def _is_here(uri: str) -> bool:
    match = _SCHEME.match(uri)
    return match is None or match[1].lower() == "file"


def _is_path(uri: str) -> bool:
    return _is_here(uri) and Path(artifact_path(uri)).is_absolute()
