"""Prompts to train a head on where no data set is at hand: turns that the target writes itself, and questions about documents that come with Python."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

_OPENINGS = (
    *([""] * 8),
    "What is",
    "How do",
    "Why",
    "Who",
    "When was",
    "Explain",
    "Describe",
    "Write a",
    "Write a short story about",
    "Write an email",
    "Write a Python function that",
    "Implement",
    "Give me a list of",
    "Imagine you are",
    "Pretend to be",
    "Compare",
    "Solve the following problem step by step:",
    "A store sells",
    "Tom has",
    "If a train",
    "Translate the following sentence from German to English:",
    "Summarize the following text:",
    "Read the text and answer the question.\n\nText:",
    "Extract the names and dates from this text:",
    "Rewrite the following sentence:",
    "Is it true that",
)  # a turn goes on from one of them, so that rare kinds of prompts are there too
_TASKS = (
    "Summarize: {}",
    "Summarize the following text in one sentence.\n\n{}",
    "What is the following text about?\n\n{}",
    "Rewrite this text in simpler words:\n\n{}",
    "List the key points of this text:\n\n{}",
    "Ask three questions that this text answers, and answer them.\n\n{}",
    "{}\n\nUsing only the text above, explain what it is for.",
)
_SHORTEST, _LONGEST = 200, 3000  # characters of a passage
_SEED = 1

Continue = Callable[[Sequence[Sequence[int]]], Mapping[int, Sequence[int]]]
"""The target's continuations, drawn at a temperature of 1, a hundred tokens or so at the most, by their places."""


def read_prompts(sources: Sequence[str], tokenizer: Any, continued: Continue) -> list[list[int]]:
    """Prompts as token ids, in the chat template where there is one, mixed.

    Args:
        sources: of each a JSON lines file with a `prompt` in each line, `FILE:N` to have each answered so many times; `own:N`: user turns that the
            target writes, as it would go on after the template's beginning of one (Magpie, arXiv 2406.08464); `docs:N`: passages of what is
            installed with Python, and a question about each.
        tokenizer: the target's.
        continued: for the target's own turns.
    """
    times: dict[str, int] = {}  # text -> how often it is answered
    for source in sources:
        kind, _, count = source.partition(":")
        if kind == "own" and count:
            times |= dict.fromkeys(_own_turns(int(count), tokenizer, continued), 1)
        elif kind == "docs" and count:
            times |= dict.fromkeys(_about_documents(int(count)), 1)
        else:
            lines = Path(kind).read_text(encoding="utf-8").splitlines()
            times |= dict.fromkeys((json.loads(line)["prompt"] for line in lines if line), int(count or 1))
    texts = [text for text, count in times.items() for _ in range(count)]
    random.Random(_SEED).shuffle(texts)
    return [templated(text, tokenizer) for text in texts]


def templated(text: str, tokenizer: Any) -> list[int]:
    """A user turn, up to where the answer begins."""
    if tokenizer.chat_template is None:
        return list(tokenizer(text)["input_ids"])
    turns = [{"role": "user", "content": text}]
    whole = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(whole, add_special_tokens=False)["input_ids"])


def _own_turns(count: int, tokenizer: Any, continued: Continue) -> list[str]:
    mark = "\N{SECTION SIGN}"
    whole = tokenizer.apply_chat_template([{"role": "user", "content": mark}], tokenize=False)
    before = whole.partition(mark)[0]
    openings = [_OPENINGS[place % len(_OPENINGS)] for place in range(count)]
    begun = {opening: tokenizer(before + opening, add_special_tokens=False)["input_ids"] for opening in set(openings)}
    found = continued([begun[opening] for opening in openings])
    ends = {place: tokenizer.decode(tokens, skip_special_tokens=True) for place, tokens in sorted(found.items())}
    return [(openings[place] + end).strip() for place, end in ends.items() if end.strip()]


def _about_documents(count: int) -> list[str]:
    """At the most so many, in an order of their own."""
    rng = random.Random(_SEED)
    found = [task.format(text) for text in _passages() for task in _TASKS]
    return rng.sample(found, min(count, len(found)))


def _passages() -> Iterator[str]:
    """Of the language's reference, and of the descriptions of installed packages."""
    texts: list[str] = list(topics.values())
    for package in sorted(distributions(), key=lambda package: package.name):
        description = re.sub(r"<[^>]*>|!?\[!?\[[^\n]*", "", str(package.metadata.get_payload()))  # without badges
        texts += re.split(r"\n(?=#+ |.+\n[=-]{3,}\n)", description)
    for text in texts:
        for begin in range(0, len(text), _LONGEST):
            passage = text[begin : begin + _LONGEST].strip()
            if len(passage) >= _SHORTEST:
                yield passage
