from dataclasses import dataclass


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None = None
    logprobs: None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass
class RequestOutput:
    request_id: str
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool

    def add(self, next_output: "RequestOutput") -> None:
        """A delta that nobody has taken yet grows by the next one."""
        [mine], [theirs] = self.outputs, next_output.outputs
        mine.token_ids = [*mine.token_ids, *theirs.token_ids]
        mine.finish_reason, mine.stop_reason = theirs.finish_reason, theirs.stop_reason
        self.finished |= next_output.finished
