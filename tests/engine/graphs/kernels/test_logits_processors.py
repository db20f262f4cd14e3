"""The kernels that change rows' logits against their reference in PyTorch, which is held against the definitions elsewhere."""

from dataclasses import fields

import pytest
import torch

pytest.importorskip("triton")

from specbatch.engine.graphs.kernels import logits_processors as kernels
from specbatch.engine.logits.grammar import mask_words
from specbatch.engine.logits.options import NO_OPTIONS, LogitsOptions, Processor
from specbatch.engine.logits.processors import process_slots
from specbatch.engine.logits.row_options import OptionSizes, RowOptions
from specbatch.engine.request import Request, SamplingParams
from tests.engine.logits import plain_options

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
VOCAB, SLOTS, LENGTH = 70, 6, 30
MANY = LogitsOptions(no_repeat_ngram_size=1, frequency_penalty=-0.5, repetition_penalty=0.7)
KINDS = plain_options.KINDS | {"single tokens": MANY}
SIZES = OptionSizes(8, 5, 4)
# NumPy's, of the interpreter: it wraps and divides as a GPU does, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|divide by zero|invalid value|All-NaN):RuntimeWarning")


def arguments(kinds, n, dtype=torch.float32, seed=0):
    """Of rows in slots in no order; their tokens are few, so that they stand there often."""
    generator = torch.Generator().manual_seed(seed)
    options = [kinds[i % len(kinds)] for i in range(SLOTS)]
    prompts = [1 + i % 5 for i in range(SLOTS)]
    requests = [
        Request(str(i), [0] * prompts[i], 20, sampling=SamplingParams(0.9 * (i % 3)), logits=options[i])
        for i in range(SLOTS)
    ]
    lines = RowOptions.of(requests, torch.device("cpu"), SIZES)
    slots = torch.tensor([4, 1, 5, 0, 3])
    firsts = torch.tensor([5, 12, 9, 20, 5])[:, None]
    given = (
        (torch.randn(5, n, VOCAB + 3, generator=generator) * 3).to(dtype),
        RowOptions(**{field.name: getattr(lines, field.name).to(DEVICE) for field in fields(RowOptions)}),
        Processor(sum({int(p) for one in options for p in one.processors})),
        torch.randint(0, 8, (SLOTS, LENGTH), generator=generator),
        slots,
        firsts + torch.arange(n),
        torch.tensor(prompts),
        torch.tensor([request.sampling.temperature for request in requests]),
    )
    words = torch.randint(-(2**31), 2**31, (5, n + 2, mask_words(VOCAB)), generator=generator, dtype=torch.int64)
    words = words.to(torch.int32).to(DEVICE)[:, :n]  # of memory for more positions
    logits, *rest = [one.to(DEVICE) if isinstance(one, torch.Tensor) else one for one in given]
    return logits[..., :VOCAB], *rest, words  # of a wider head


def check(given):
    before = given[0].clone()
    ours, theirs = kernels.process(*given), process_slots(*given)
    assert torch.equal(given[0], before), "the logits are as they were"
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    return theirs


@pytest.mark.parametrize("kind", KINDS)
def test_a_processor_does_what_the_reference_does(kind):
    given = arguments([KINDS[kind], NO_OPTIONS, KINDS[kind]], 3)
    assert not torch.equal(check(given), given[0])


@pytest.mark.parametrize("processors", [Processor.GRAMMAR, Processor.GRAMMAR | Processor.MIN_P])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_masks_and_half_precision(processors, dtype):
    given = list(arguments([KINDS["min-p"]], 3, dtype))
    given[2] = processors
    assert check(given).isinf().any()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_rows_of_every_kind_beside_each_other(seed, monkeypatch):
    """Rows longer than the stretch that is looked at together, too."""
    monkeypatch.setattr(kernels, "_WIDTH", 8 if seed % 2 else kernels._WIDTH)
    kinds = list(KINDS.values())
    given = list(arguments(kinds[seed:] + kinds[:seed], 1 + seed, seed=seed))
    given[2] |= Processor.GRAMMAR if seed % 3 == 0 else Processor.NONE
    check(given)


def test_a_row_that_is_not_a_number_stays_one():
    given = arguments([KINDS["all"]], 2)
    given[0][1, 1] = float("nan")
    found = kernels.process(*given)
    assert found[1, 1].isnan().any()
    assert not found[[0, 2, 3, 4]].isnan().any()
