from vllm.exceptions import VLLMServerError


class EngineGenerateError(VLLMServerError):
    """One request failed."""


class EngineDeadError(VLLMServerError):
    """The engine's process has died."""
