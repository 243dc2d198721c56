"""Finds a base model's folder, and refuses what a model folder must not hold before anything loads it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from tuneline.catalog import Catalog
from tuneline.errors import InfrastructureError, ModelError, did_you_mean

EMBEDDED_MODELS = Path(__file__).parent.parent / "embedded" / "models"
HUGGING_FACE = re.compile(r"hf://[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?:@[A-Za-z0-9][\w.-]*)?", re.ASCII)
FETCHED_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt"]
"""No code and no pickle ever gets here."""
COMPLETE = ".complete"

ARCHITECTURES = frozenset({"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM"})
HARMLESS_PRIVATE_KEYS = frozenset({"_name_or_path", "_sliding_window_pattern", "_from_model_config", "_attn_implementation_autoset"})
"""Written by transformers itself when it saves a model."""
FORBIDDEN_KEYS = frozenset({"auto_map", "trust_remote_code", "custom_pipelines", "quantization_config"})
MAX_JSON_BYTES = 10_000_000
MAX_HEADER_BYTES = 100_000_000
PUBLISHER = "Use the files of the model's publisher."


def architecture_problems(catalog: Catalog, reference: str) -> Iterator[str]:
    """Why a base model cannot be tuned, as far as its row of the catalogue tells: before anything is downloaded."""
    row = catalog.model(reference)
    if row.architecture not in ARCHITECTURES:
        yield f"large_model_reference: {row.reference} is a {row.architecture}; expected one of {', '.join(sorted(ARCHITECTURES))}. Take another model."


def locate(uri: str, *, downloads: Path) -> Path:
    """The local folder of a base model: `embedded:NAME`, `hf://OWNER/NAME[@REVISION]`, a gs:// URI or a folder. Fetched ones stay in `downloads`."""
    if uri.startswith("gs://"):
        return _from_cloud_storage(uri, downloads)
    return find_here(uri, downloads=downloads) or _from_hugging_face(uri, _download_folder(uri, downloads))


def find_here(uri: str, *, downloads: Path) -> Path | None:
    """The folder of a base model that is on this machine already; nothing when it would have to be fetched."""
    if uri.startswith("embedded:"):
        return _embedded(uri.removeprefix("embedded:"))
    if uri.startswith("hf://"):
        folder = _download_folder(uri, downloads)
        return folder if (folder / COMPLETE).exists() else None
    if uri.startswith("gs://"):
        return None
    folder = Path(uri.removeprefix("file://"))
    if not (folder / "config.json").is_file():
        hint = f" For a Hugging Face model write hf://{uri}." if HUGGING_FACE.fullmatch(f"hf://{uri}") else ""
        raise ModelError(f"{uri}: expected a model folder with a config.json.{hint}", next_action="Check the spelling, and that it lies where this job runs.")
    return folder


def _embedded(name: str) -> Path:
    names = sorted(path.name for path in EMBEDDED_MODELS.glob("*") if (path / "tokenizer.json").is_file())
    if name not in names:
        raise ModelError(f"embedded:{name} is not part of this installation, which has {', '.join(names) or 'no model'}.{did_you_mean(name, names)}")
    return EMBEDDED_MODELS / name


def _download_folder(uri: str, downloads: Path) -> Path:
    if not HUGGING_FACE.fullmatch(uri):
        raise ModelError(f"{uri!r} is no Hugging Face model; expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION.")
    return downloads / "hf" / uri.removeprefix("hf://")


def _from_hugging_face(uri: str, folder: Path) -> Path:
    name, _, revision = uri.removeprefix("hf://").partition("@")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError
    except ImportError:
        raise ModelError(f"{uri} needs the package huggingface_hub.", next_action="pip install 'tuneline[tune]', or give a folder.") from None
    try:
        snapshot_download(name, revision=revision or None, local_dir=folder, allow_patterns=FETCHED_FILES)
    except GatedRepoError:
        raise ModelError(f"{uri}: the publisher grants access by request.", next_action="Accept the terms on its page and log in: hf auth login") from None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise ModelError(f"{uri}: no such model or revision.", next_action="Check the spelling.") from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        action = f"Copy the model's files to this machine and give their folder, or put them into {folder} with an empty file {COMPLETE}."
        raise ModelError(f"{uri} is not on this machine, and Hugging Face cannot be reached.", next_action=action) from None
    except OSError as error:  # HTTP errors too
        raise InfrastructureError(f"{uri} could not be fetched ({type(error).__name__}).", next_action="Try again.") from error
    (folder / COMPLETE).touch()
    return folder


def _from_cloud_storage(uri: str, downloads: Path) -> Path:
    from tuneline.storage import Storage  # fsspec is not needed for local models

    storage = Storage()
    folder = downloads / "gs" / re.sub(r"[^\w.-]", "_", uri.removeprefix("gs://")) / storage.fingerprint(uri).rpartition(":")[2][:16]
    if not (folder / COMPLETE).exists():
        storage.copy(uri, str(folder))
        (folder / COMPLETE).touch()
    return folder


def check_configuration(folder: Path) -> None:
    """Refuse, with every reason, a folder that could run code, read other files or needs a model class that we do not tune."""
    problems = [*_config_problems(folder), *_weight_problems(folder), *_link_problems(folder)]
    if problems:
        raise ModelError(*(f"{folder}: {problem}" for problem in problems), next_action=PUBLISHER)


def _config_problems(folder: Path) -> Iterator[str]:
    for name in ("config.json", "generation_config.json", "tokenizer_config.json", "preprocessor_config.json"):
        if not (folder / name).is_file():
            if name == "config.json":
                yield "config.json is missing; expected a model folder."
            continue
        values = _read_object(folder / name)
        if values is None:
            yield f"{name} is not a JSON object of less than {MAX_JSON_BYTES:,} bytes."
            continue
        yield from (f"{name} {reason}" for reason in _key_problems(values, ""))
        if name == "config.json":
            yield from _architecture_problems(values)
    if (folder / "adapter_config.json").exists():
        yield "adapter_config.json: an adapter may pull in another model; merge it into the base model first."


def _architecture_problems(config: dict[str, object]) -> Iterator[str]:
    found = config.get("architectures")
    if not isinstance(found, list) or len(found) != 1 or found[0] not in ARCHITECTURES:
        shown = ", ".join(map(repr, found)) if isinstance(found, list) else "none"
        yield f"config.json names the architecture {shown[:200]}; expected one of {', '.join(sorted(ARCHITECTURES))}."
    # transformers picks the class by `model_type` alone, so the two must say the same.
    elif str(config.get("model_type")).removesuffix("_text") != found[0].removesuffix("ForCausalLM").lower():
        yield f"config.json: 'model_type' does not belong to {found[0]}."


def _key_problems(value: object, place: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in FORBIDDEN_KEYS or (key.startswith("_") and key not in HARMLESS_PRIVATE_KEYS):
                yield f"has the key {place}{key[:80]!r}, which is not allowed: it can name code or change how the model is loaded."
            yield from _key_problems(inner, f"{place}{key[:80]}.")
    elif isinstance(value, list):
        for inner in value:
            yield from _key_problems(inner, place)


def _weight_problems(folder: Path) -> Iterator[str]:
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl") for path in folder.glob(pattern))
        yield (
            f"only pickled weights ({', '.join(pickled[:3])}), which can run code; expected *.safetensors." if pickled else "no *.safetensors with the weights."
        )
    yield from (f"{path.name} {reason}" for path in weights if (reason := _header_problem(path)))
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        values = _read_object(index)
        shards = values.get("weight_map") if values else None
        if not isinstance(shards, dict):
            yield f"{index.name} has no weight_map."
            return
        for shard in sorted({str(shard) for shard in shards.values()}):
            if shard != Path(shard).name or not shard.endswith(".safetensors"):
                yield f"{index.name} points to {shard[:80]!r}; expected a *.safetensors file of this folder."
            elif not (folder / shard).is_file():
                yield f"{shard[:80]} is missing, though {index.name} names it."


def _header_problem(path: Path) -> str:
    """What is wrong with a safetensors file's first bytes, before a library trusts them."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        start = file.read(1)
    if size < 9 or length > min(size - 8, MAX_HEADER_BYTES) or start != b"{":
        return "is damaged or no safetensors file: its header does not fit."
    return ""


def _link_problems(folder: Path) -> Iterator[str]:
    root = folder.resolve()
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            yield f"{path.relative_to(folder)} is a link out of the folder; copy the files themselves (cp -rL)."


def _read_object(path: Path) -> dict[str, object] | None:
    if path.stat().st_size > MAX_JSON_BYTES:
        return None
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None
