"""Each processor against its definition, on random logits and tokens; and mutants that must differ."""

import pytest
import torch

from specbatch.engine.logits import processors as logits_processors
from specbatch.engine.logits.processors import process
from specbatch.engine.logits.row_options import RowOptions
from specbatch.engine.request import Request, SamplingParams
from tests.engine.logits import plain_options

VOCAB, LENGTH, PROMPT = 8, 14, 4
KINDS = list(plain_options.KINDS)


def rows(options, count=60):
    """Each with its prompt, and a token to be chosen at three positions of its completion."""
    generator = torch.Generator().manual_seed(2)
    requests = [
        Request(str(i), [0] * (PROMPT - i % 2), 20, sampling=SamplingParams(0.7 + i % 3), logits=options)
        for i in range(count)
    ]
    history = torch.randint(0, VOCAB, (count, LENGTH), generator=generator)
    logits = torch.randn(count, 3, VOCAB, generator=generator) * 2
    positions = torch.randint(PROMPT, LENGTH - 3, (count, 1), generator=generator) + torch.arange(3)
    return requests, history, logits, positions


def processed(options):
    requests, history, logits, positions = rows(options)
    prompts = torch.tensor([len(request.prompt_token_ids) for request in requests])
    temperature = torch.tensor([request.sampling.temperature for request in requests])
    asked = RowOptions.of(requests, torch.device("cpu")), options.processors
    return process(logits, *asked, history, positions, prompts, temperature)


def defined(options):
    requests, history, logits, positions = rows(options)
    found = torch.empty(*logits.shape)
    for row, request in enumerate(requests):
        prompt = len(request.prompt_token_ids)
        for at, position in enumerate(positions[row].tolist()):
            tokens = history[row, :position].tolist()
            split = tokens[:prompt], tokens[prompt:]
            found[row, at] = plain_options.processed(
                logits[row, at], request.logits, *split, request.sampling.temperature
            )
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_processor_does_what_its_definition_says(kind):
    options = plain_options.KINDS[kind]
    torch.testing.assert_close(processed(options), defined(options), rtol=1e-5, atol=1e-5)


def later(at):
    return at._replace(positions=at.positions + 1)


MUTANTS = {
    "drafts of the round do not count": ("repetition", "_penalise", lambda at: at._replace(positions=at.positions[:, :1].expand_as(at.positions))),
    "the prompt counts as completion": ("frequency", "_penalise", lambda at: at._replace(prompt_lengths=at.prompt_lengths - 2)),
    "presence counts the prompt": ("presence", "_penalise", lambda at: at._replace(prompt_lengths=at.prompt_lengths - 2)),
    "the token itself counts": ("repetition", "_penalise", later),
    "a bias ends a token too early": ("ban for a while", "_add_bias", later),
    "no bias": ("bias", "_add_bias", None),
    "words are looked for a token too late": ("bad words", "_ban_words", later),
    "words reach into the prompt": ("bad words", "_ban_words", lambda at: at._replace(prompt_lengths=at.prompt_lengths - 2)),
    "n-grams a token too late": ("ngrams", "_ban_ngrams", later),
    "min-p at another temperature": ("min-p", "_min_p", lambda temperature: temperature * 1.5),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_fails_the_same_test(monkeypatch, name):
    kind, function, change = MUTANTS[name]
    real = getattr(logits_processors, function)
    monkeypatch.setattr(
        logits_processors,
        function,
        lambda scores, options, at, **kwargs: change and real(scores, options, change(at), **kwargs),
    )
    options = plain_options.KINDS[kind]
    assert not torch.allclose(processed(options), defined(options), rtol=1e-5, atol=1e-5)
