def tokens_input(prompt_token_ids: list[int], *, prompt: str | None = None, cache_salt: str | None = None) -> dict[str, object]:
    assert prompt is None
    assert cache_salt is None
    return {"type": "token", "prompt_token_ids": prompt_token_ids}
