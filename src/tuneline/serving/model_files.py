"""What is served: the folder of a model, or of a PEFT adapter together with its base model's. Found, checked against its hashes, not loaded."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tuneline.data.base_model import COMPLETE, HUGGING_FACE, locate
from tuneline.errors import ModelError
from tuneline.modeling import checkpoints
from tuneline.serving.adapters import Adapter, is_adapter, read_adapter

BASE_MODEL = "--base-model (BASE_MODEL_ID)"


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """Where everything lies that answers are made with."""

    folder: Path
    """The weights and their configuration; the base model's, where there is an adapter."""
    tokenizer_folder: Path
    adapter: Adapter | None = None


def find_model(uri: str, *, base_model: str, downloads: Path) -> ServedModel:
    """The model or adapter at `uri`, fetched where it is not on this machine. `base_model` goes before what an adapter says itself."""
    folder = _fetch(uri, downloads)
    if not is_adapter(folder):
        if base_model:
            raise ModelError(f"{uri} is a whole model, not an adapter.", next_action=f"Leave {BASE_MODEL} out, or give an adapter's folder.")
        return ServedModel(folder=folder, tokenizer_folder=folder)
    adapter = read_adapter(folder)
    try:
        base = _fetch(base_model or _base_uri(adapter), downloads)
    except ModelError as error:
        action = f"{error.next_action} Another place of the base model can be given by {BASE_MODEL}."
        raise ModelError(*(f"base model of the adapter {uri}: {problem}" for problem in error.problems), next_action=action.strip()) from error
    return ServedModel(folder=base, tokenizer_folder=folder if _has_tokenizer(folder) else base, adapter=adapter)


def _fetch(uri: str, downloads: Path) -> Path:
    plain = Path(uri.removeprefix("file://"))
    folder = plain if is_adapter(plain) else locate(uri, downloads=downloads)
    if (folder / checkpoints.COMMIT).exists() and not uri.startswith("hf://"):  # of a hub's files only some are fetched
        _verify(folder)
    return folder


def _verify(folder: Path) -> None:
    """Compare every file with its hash. The marker of a finished download is none of them."""
    marker = folder / COMPLETE
    is_marked = marker.exists()
    if is_marked:  # a folder that was not fetched here may be read-only
        marker.unlink()
    checkpoints.verify(folder)
    if is_marked:
        marker.touch()


def _base_uri(adapter: Adapter) -> str:
    """The base model as the adapter names it. PEFT writes Hugging Face's `OWNER/NAME`."""
    name = adapter.base_model
    if not name:
        raise ModelError("adapter_config.json does not say which one (base_model_name_or_path).")
    uri = f"hf://{name}@{adapter.base_revision}" if adapter.base_revision else f"hf://{name}"
    return uri if HUGGING_FACE.fullmatch(uri) and not Path(name).is_dir() else name


def _has_tokenizer(folder: Path) -> bool:
    """Whether an adapter brings its own. A tokenizer alone is the base model's, which PEFT's users save along."""
    has_template = any(_templates(folder))
    if has_template and not (folder / "tokenizer.json").is_file():
        action = "Copy tokenizer.json and tokenizer_config.json from the base model into it, or remove the template."
        raise ModelError(f"{folder} has a chat template and no tokenizer.json.", next_action=action)
    return has_template


def _templates(folder: Path) -> Iterator[bool]:
    yield (folder / "chat_template.jinja").is_file()
    configuration = folder / "tokenizer_config.json"
    yield configuration.is_file() and '"chat_template"' in configuration.read_text(encoding="utf-8", errors="replace")
