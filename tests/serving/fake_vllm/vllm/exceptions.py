class VLLMError(Exception):
    pass


class VLLMServerError(VLLMError):
    pass


class VLLMValidationError(VLLMError):
    pass
