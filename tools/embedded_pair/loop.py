"""One training loop for both models: fixed shapes, compiled layers, on CUDA a whole step as one graph.

A deep thin model is bound by launches, not by arithmetic: forward, backward, clipping and the optimizer's step are
captured once for each row length and then replayed.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor
    from transformers import Qwen3ForCausalLM

    from tools.embedded_pair.corpus import Rows

    Loss = Callable[[Tensor, Tensor], Tensor]  # ids [rows, length], answer [rows, length] -> scalar


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train."""

    steps: int
    tokens_per_step: int
    peak_lr: float
    warmup: int = 300
    final_share: float = 0.01  # of peak_lr, at the last step
    weight_decay: float = 0.05
    seed: int = 0

    def lr(self, step: int) -> float:
        """Linear warm-up, then a cosine down to `final_share` of the peak."""
        if step < self.warmup:
            return self.peak_lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.peak_lr * (self.final_share + (1 - self.final_share) * 0.5 * (1 + math.cos(math.pi * done)))


def logits_of(model: Qwen3ForCausalLM, ids: Tensor) -> Tensor:
    """The stock modules' forward without masks and caches: ids [rows, length] -> logits [rows, length, vocab]."""
    inner = model.model
    hidden = inner.embed_tokens(ids)
    position_embeddings = inner.rotary_emb(hidden, torch.arange(ids.shape[1], device=ids.device)[None])
    for layer in inner.layers:
        hidden = layer(hidden, attention_mask=None, position_embeddings=position_embeddings)
    logits: Tensor = model.lm_head(inner.norm(hidden))
    return logits


def answer_loss(logits: Tensor, ids: Tensor, answer: Tensor) -> Tensor:
    """Mean cross-entropy of the answers' tokens, each predicted from the position before it."""
    losses = functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    wanted = answer[:, 1:].flatten().float()
    return (losses * wanted).sum() / wanted.sum()


def distillation_loss(logits: Tensor, teacher: Tensor, answer: Tensor) -> Tensor:
    """Mean cross-entropy of the drafter to the target's distribution, at the positions that predict answers."""
    student = functional.log_softmax(logits[:, :-1].float(), dim=-1)
    losses = -(teacher[:, :-1].float().softmax(dim=-1) * student).sum(dim=-1)
    wanted = answer[:, 1:].float()
    return (losses * wanted).sum() / wanted.sum()


def batches(rows: Mapping[int, Rows], recipe: Recipe, device: str) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield (length, ids, answer) for `recipe.steps` steps: epochs in a fixed shuffled order."""
    ids = {n: torch.from_numpy(part.ids.astype("int16")).to(device) for n, part in rows.items()}
    answer = {n: torch.from_numpy(part.answer).to(device) for n, part in rows.items()}
    rng = torch.Generator().manual_seed(recipe.seed)
    made = 0
    while made < recipe.steps:
        orders = {n: torch.randperm(len(part), generator=rng).to(device) for n, part in ids.items()}
        size = {n: recipe.tokens_per_step // n for n in rows}
        plan = [(n, start) for n in rows for start in range(0, len(ids[n]) - size[n] + 1, size[n])]
        assert plan, "not one full batch: make more tasks or smaller steps"
        for choice in torch.randperm(len(plan), generator=rng).tolist()[: recipe.steps - made]:
            n, start = plan[choice]
            picked = orders[n][start : start + size[n]]
            yield n, ids[n][picked].long(), answer[n][picked]
            made += 1


class Step:
    """One optimizer step as a callable; captured as a CUDA graph for each length where there is CUDA."""

    def __init__(self, model: Qwen3ForCausalLM, loss: Loss, recipe: Recipe, device: str) -> None:
        self.loss, self.device = loss, device
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.lr = torch.zeros((), device=device)
        groups = [
            {"params": [w for w in self.weights if w.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [w for w in self.weights if w.ndim < 2], "weight_decay": 0.0},
        ]
        cuda = device != "cpu"
        self.optimizer = torch.optim.AdamW(groups, lr=self.lr, betas=(0.9, 0.97), fused=cuda, capturable=cuda)
        self.graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, Tensor, Tensor]] = {}

    def _eager(self, ids: Tensor, answer: Tensor) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.device != "cpu", cache_enabled=False):
            loss = self.loss(ids, answer)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        return loss.detach()

    def capture(self, examples: Mapping[int, tuple[Tensor, Tensor]]) -> None:
        """Record one graph for each length; learning rate nought, optimizer state wiped after."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        for n, (ids, answer) in examples.items():
            started = time.monotonic()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):
                    self._eager(ids, answer)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            self.optimizer.zero_grad(set_to_none=True)
            pool = next((captured[0].pool() for captured in self.graphs.values()), None)
            with torch.cuda.graph(graph, pool=pool):
                loss = self._eager(ids, answer)
            self.graphs[n] = (graph, ids, answer, loss)
            print(f"captured length {n}: {time.monotonic() - started:.0f} s", flush=True)
        for state in self.optimizer.state.values():
            for value in state.values():
                value.zero_()

    def __call__(self, n: int, ids: Tensor, answer: Tensor, lr: float) -> Tensor:
        """Train on ids and answer [rows, n]; returns the loss, unsynchronised."""
        self.lr.fill_(lr)
        if n not in self.graphs:
            return self._eager(ids, answer)
        graph, its_ids, its_answer, loss = self.graphs[n]
        its_ids.copy_(ids)
        its_answer.copy_(answer)
        graph.replay()
        return loss


def train(model: Qwen3ForCausalLM, loss: Loss, rows: Mapping[int, Rows], recipe: Recipe, device: str) -> None:
    """Run the recipe; prints the loss from time to time."""
    step = Step(model, loss, recipe, device)
    if device != "cpu":
        first: dict[int, tuple[Tensor, Tensor]] = {}
        for n, ids, answer in batches(rows, recipe, device):
            first.setdefault(n, (ids, answer))
            if len(first) == len(rows):
                break
        step.capture(first)
    started, recent = time.monotonic(), torch.zeros((), device=device)
    every = max(1, recipe.steps // 40)
    for number, (n, ids, answer) in enumerate(batches(rows, recipe, device), 1):
        recent += step(n, ids, answer, recipe.lr(number - 1))
        if number % every == 0:
            seconds = time.monotonic() - started
            print(
                f"step {number:6d} loss {recent.item() / every:.4f} {seconds:6.1f} s {1000 * seconds / number:.1f} ms/step",
                flush=True,
            )
            recent.zero_()
