"""Logits processors as their definitions read, token by token in Python: what the engine's tensors are held against."""

import math
from collections import Counter

import torch

from specbatch.engine.logits.options import LogitsOptions, TokenBias

BAN = -math.inf
KINDS = {
    "repetition": LogitsOptions(repetition_penalty=1.4),
    "frequency": LogitsOptions(frequency_penalty=0.9),
    "presence": LogitsOptions(presence_penalty=1.5),
    "bias": LogitsOptions(bias=(TokenBias(3, 2.5), TokenBias(5, -3.0), TokenBias(0, BAN))),
    "ban for a while": LogitsOptions(bias=tuple(TokenBias(token, BAN, until=2) for token in (1, 2, 4))),
    "bad words": LogitsOptions(bad_words=((2, 4), (1,), (3, 3, 5), (6, 2))),
    "ngrams": LogitsOptions(no_repeat_ngram_size=2),
    "min-p": LogitsOptions(min_p=0.3),
    "all": LogitsOptions(
        bias=(TokenBias(1, 1.0), TokenBias(2, BAN, until=1)),
        bad_words=((4, 4),),
        repetition_penalty=1.2,
        frequency_penalty=-0.4,
        presence_penalty=0.3,
        no_repeat_ngram_size=3,
        min_p=0.1,
    ),
}

# Of a vocabulary of 64, where greedy text hardly repeats itself: each changes it.
WIDE = KINDS | {
    "ban for a while": LogitsOptions(bias=tuple(TokenBias(token, BAN, until=6) for token in range(0, 64, 2))),
    "bad words": LogitsOptions(bad_words=((23, 4), (4, 4), (4, 30), (3,), (5, 6, 7))),
    "ngrams": LogitsOptions(no_repeat_ngram_size=1),
}


def processed(
    logits: torch.Tensor, options: LogitsOptions, prompt: list[int], completion: list[int], temperature: float
):
    """What the next token is chosen from.  # float64 [vocab]"""
    scores = logits.double().tolist()
    before, counts = [*prompt, *completion], Counter(completion)
    for word in options.bad_words:
        if len(word) == 1 or completion[-len(word) + 1 :] == list(word[:-1]):
            scores[word[-1]] = BAN
    size = options.no_repeat_ngram_size
    for token in range(len(scores) if size else 0):
        grams = [before[i : i + size] for i in range(len(before) - size + 1)]
        if [*before[len(before) - size + 1 :], token] in grams:
            scores[token] = BAN
    for bias in options.bias:
        if len(completion) < bias.until:
            scores[bias.token] += bias.value
    for token in set(before):
        value, penalty = scores[token], options.repetition_penalty
        scores[token] = value / penalty if value > 0 else value * penalty
        scores[token] -= options.frequency_penalty * counts[token] + options.presence_penalty * (counts[token] > 0)
    if options.min_p and temperature:
        probs = (torch.tensor(scores, dtype=torch.float64) / temperature).softmax(-1)
        scores = [BAN if p < options.min_p * probs.max() else score for p, score in zip(probs, scores, strict=True)]
    return torch.tensor(scores, dtype=torch.float64)


def greedy(model, options: LogitsOptions, prompt: list[int], new_tokens: int) -> list[int]:
    """The target alone, forward by forward."""
    completion: list[int] = []
    for _ in range(new_tokens):
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *completion]])).logits[0, -1]
        completion.append(int(processed(logits, options, prompt, completion, 0.0).argmax()))
    return completion
