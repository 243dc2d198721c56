from pathlib import Path

import pytest

from tests.data.tiny_tokenizer import write_model
from tuneline.data.tokens import ChatTokenizer, load_tokenizer


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def tokenizer(model_folder: Path) -> ChatTokenizer:
    return load_tokenizer(model_folder)
