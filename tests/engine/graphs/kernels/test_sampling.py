"""The kernels that choose tokens against their reference in PyTorch."""

import pytest
import torch

pytest.importorskip("triton")

import triton
import triton.language as tl

from specbatch.engine.counter_rng import exponentials
from specbatch.engine.graphs.kernels import sampling as kernels
from specbatch.engine.graphs.kernels.sampling import sample
from specbatch.engine.graphs.reference import TorchOps

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
INF, NAN = float("inf"), float("nan")
# NumPy's, of the interpreter: it wraps and divides as a GPU does, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|divide by zero|invalid value|All-NaN):RuntimeWarning")


def random(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype) * 3


def some_keys(count, seed=1):
    return torch.randint(-(2**63), 2**63 - 1, (count,), generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def scores(logits, keys, temperature):
    """What the reference takes the greatest of."""
    noise = exponentials(keys, torch.arange(logits.shape[1], device=DEVICE))
    drawn = logits.float() / torch.where(temperature > 0, temperature, 1.0)[:, None] - noise.log()
    return torch.where((temperature > 0)[:, None], drawn, logits.float())


@triton.jit
def _store_exponentials(keys, out, first, interpreted: tl.constexpr, width: tl.constexpr):
    tokens = tl.arange(0, width)
    row = tl.program_id(0)
    drawn = kernels._exponential(tl.load(keys + row), first + tokens, interpreted)
    tl.store(out + row * width + tokens, drawn)


@pytest.mark.parametrize("first", [0, 151_936 - 4096, 2**31 - 2 - 4096])
def test_the_noise_is_that_of_counter_rng(first):
    keys = torch.cat([some_keys(5), torch.tensor([0, -1, 2**63 - 1, -(2**63)], device=DEVICE)])
    ours = torch.empty(len(keys), 4096, device=DEVICE)
    _store_exponentials[(len(keys),)](keys, ours, first, DEVICE == "cpu", 4096)
    theirs = exponentials(keys.cpu(), torch.arange(first, first + 4096)).to(DEVICE)
    torch.testing.assert_close(ours, theirs, rtol=6 * torch.finfo(torch.float32).eps, atol=0)
    assert (ours > 0).all()


def inverse_mix(z):
    """The counter from which SplitMix64 makes these bits."""

    def unshift(z, bits):
        whole = z
        for _ in range(64 // bits + 1):
            whole = z ^ (whole >> bits)
        return whole

    z = unshift(z, 31) * pow(kernels._FACTOR_2.value, -1, 2**64) % 2**64
    z = unshift(z, 27) * pow(kernels._FACTOR_1.value, -1, 2**64) % 2**64
    return unshift(z, 30)


def key_that_draws(bits, token):
    """The key under which a token's uniform has these upper 32 bits."""
    key = (inverse_mix(bits << 32) - (token + 1) * kernels._STEP.value) % 2**64
    return key - 2**64 if key >= 2**63 else key


@pytest.mark.parametrize("bits", [0, 1, 2**8, 2**20, 2**31 - 1, 2**31, 2**31 + 2**8, 2**32 - 2**10, 2**32 - 2**8 - 1])
def test_the_noise_is_as_exact_where_it_is_small_and_where_it_is_great(bits):
    keys = torch.tensor([key_that_draws(bits, 3)], device=DEVICE)
    ours = torch.empty(1, 16, device=DEVICE)
    _store_exponentials[(1,)](keys, ours, 0, DEVICE == "cpu", 16)
    unit = torch.tensor((bits + 0.5) / 2**32, dtype=torch.float32).double()
    assert ours[0, 3].item() == pytest.approx(-torch.log1p(-unit).item(), rel=1e-6)


def test_a_token_whose_uniform_is_rounded_to_1_cannot_win():
    keys = torch.tensor([key_that_draws(2**32 - 1, 3)] * 3, device=DEVICE)
    logits = torch.full((3, 10), -50.0, device=DEVICE)
    logits[:, 3] = 100.0
    logits[1, :3] = logits[1, 4:] = -INF  # the only token there is: its score is -inf, as all others' are
    logits[2] = -INF
    tokens, finite = sample(logits, keys, torch.ones(3, device=DEVICE))
    assert tokens[0] != 3
    assert (tokens >= 0).all()
    assert (tokens < 10).all()
    assert finite.tolist() == [True, True, False]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("count", "vocab"), [(1, 8), (3, 259), (5, 1024), (2, 5001), (0, 50)])
def test_sample_chooses_the_references_tokens(count, vocab, dtype):
    logits, keys = random(count, vocab, dtype=dtype), some_keys(count)
    temperature = torch.tensor([0.0, 0.7, 1.0, 1.7, 0.01] * 7, device=DEVICE)[:count]
    if count == 1:
        temperature.fill_(0.7)
    tokens, finite = sample(logits, keys, temperature)
    assert tokens.dtype == torch.int64
    assert finite.dtype == torch.bool
    assert finite.all()
    held = scores(logits, keys, temperature)
    chosen = held.gather(1, tokens[:, None])[:, 0]
    torch.testing.assert_close(chosen, held.amax(1) if count else chosen, rtol=1e-6, atol=3e-6)
    assert torch.equal(tokens, TorchOps().sample(logits, keys, temperature)[0])
    greedy, _ = sample(logits, keys, None)
    assert torch.equal(greedy, logits.float().argmax(-1))
    assert torch.equal(tokens[temperature == 0], greedy[temperature == 0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_greedy_takes_the_lowest_of_equals(dtype):
    logits = torch.zeros(4, 5000, dtype=dtype, device=DEVICE) - 1
    logits[0, [4999, 17, 18]] = 2
    logits[1, [4100, 1500]] = 2
    logits[2, 4000], logits[2, 30] = 0.0, -0.0
    for temperature in (None, torch.zeros(4, device=DEVICE)):
        assert sample(logits, some_keys(4), temperature)[0].tolist() == [17, 1500, 30, 0]


@pytest.mark.parametrize("temperature", [None, 0.0, 1.0])
def test_sample_says_which_rows_are_not_finite(temperature):
    logits = random(9, 3000)
    logits[0, 2999] = NAN
    logits[1, 7] = INF
    logits[2] = -INF
    logits[3] = NAN
    logits[4, 1:] = -INF
    logits[5, 1500] = -NAN
    logits[5, 3] = -INF
    logits[6, :2000], logits[6, 2500] = -INF, INF
    logits[7, :2999] = -INF
    heat = None if temperature is None else torch.full((9,), temperature, device=DEVICE)
    tokens, finite = sample(logits, some_keys(9), heat)
    assert finite.tolist() == [False, False, False, False, True, False, False, True, True]
    assert torch.equal(finite, TorchOps().sample(logits, some_keys(9), heat)[1])
    assert (tokens >= 0).all()
    assert (tokens < 3000).all()
    assert tokens[4] == 0
    assert tokens[7] == 2999


@pytest.mark.slow
def test_many_rows_which_take_blocks_of_another_size():
    logits, keys = random(33, 4100, dtype=torch.bfloat16), some_keys(33)
    temperature = torch.tensor([0.0, 0.8, 1.2] * 11, device=DEVICE)
    assert torch.equal(sample(logits, keys, temperature)[0], TorchOps().sample(logits, keys, temperature)[0])


def test_sample_of_rows_of_a_wider_tensor():
    wide, keys = random(4, 1200), some_keys(4)
    heat = torch.ones(4, device=DEVICE)
    assert torch.equal(sample(wide[:, :1000], keys, heat)[0], sample(wide[:, :1000].contiguous(), keys, heat)[0])
