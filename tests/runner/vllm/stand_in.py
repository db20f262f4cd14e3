"""A stand-in for vLLM's LLMEngine: its interface as the adapter uses it, with a model that counts upwards.

Like the real one it adds nothing to a step that has begun, sends tokens as they come or all at the end, ends rows at their length or at a stop
token, and may still send a token of a row that was aborted. The real one has the same tests in tests/vllm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace


@dataclass
class Params:
    max_tokens: int
    stop_token_ids: list[int]
    delta: bool


def params_of(request):
    return Params(request.max_new_tokens, sorted(request.eos_token_ids), delta=request.stop is not None)


@dataclass
class _Row:
    last: int
    params: Params
    tokens: list[int] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)  # until its scores are sent, once


class StandIn:
    """Gives each row the numbers after its last prompt token, so many a step.

    most_tokens: a longer prompt is refused
    a_step: tokens of each row a step
    dies_at: the step that raises `error`
    gives_up: the row that it aborts by itself, by its place
    """

    def __init__(self, *, most_tokens=100, a_step=1, slots=2, dies_at=None, error=None, metrics=None, gives_up=None):
        self.most_tokens, self.a_step, self.slots, self.metrics = most_tokens, a_step, slots, metrics
        self.dies_at, self.error = dies_at, error
        self.rows: dict[str, _Row] = {}
        self.steps, self.largest, self.late = 0, 0, []
        self.adapters, self.gives_up = [], gives_up

    def add_request(self, request_id, prompt, params, *, lora_request=None):
        if len(prompt["prompt_token_ids"]) > self.most_tokens:
            raise ValueError(f"prompt (length {len(prompt['prompt_token_ids'])}) is longer than the maximum\nmore")
        self.rows[request_id] = _Row(prompt["prompt_token_ids"][-1], params, prompt=prompt["prompt_token_ids"])
        self.adapters.append(lora_request)
        self.largest = max(self.largest, len(self.rows))

    def abort_request(self, request_ids):
        for name in request_ids:
            self.late.append((name, self.rows.pop(name)))

    def step(self):
        self.steps += 1
        if self.steps == self.dies_at:
            raise self.error
        outputs = [self._output(name, row, row.tokens) for name, row in self.late]
        self.late = []
        for name, row in list(self.rows.items())[: self.slots]:
            params = row.params
            new = [row.last + 1 + step for step in range(min(self.a_step, params.max_tokens - len(row.tokens)))]
            stop = next((at for at, token in enumerate(new, start=1) if token in params.stop_token_ids), None)
            new = new[:stop]
            row.last, row.tokens = new[-1], row.tokens + new
            reason = (
                "abort"
                if name == self.gives_up
                else "stop"
                if stop
                else "length"
                if len(row.tokens) == params.max_tokens
                else None
            )
            if reason:
                del self.rows[name]
            if params.delta or reason:
                outputs.append(self._output(name, row, new if params.delta else row.tokens, reason))
        return outputs

    def _output(self, name, row, tokens, reason=None):
        metrics = self.metrics if reason else None
        one = SimpleNamespace(
            token_ids=tokens, finish_reason=reason, spec_decode_metrics=metrics, logprobs=_Scores(tokens)
        )
        of_prompt, row.prompt = _Scores(row.prompt) if row.prompt else None, []
        return SimpleNamespace(request_id=name, finished=reason is not None, outputs=[one], prompt_logprobs=of_prompt)


class _Scores:
    """vLLM's FlatLogprobs: of each token the log probability is its negative, less 2; 11 and 12 are the likeliest."""

    def __init__(self, tokens):
        self.start_indices = [3 * at for at in range(len(tokens))]
        self.end_indices = [start + 3 for start in self.start_indices]
        self.token_ids = [one for token in tokens for one in (token, 11, 12)]
        self.logprobs = [one for token in tokens for one in (-2.0 - token, -0.1, -0.2)]
