"""Whether a model fits the fast path: what a description of it says is run beside its own modules, so that none is wrong in silence.

Tokens go through a cut of the model (see cut) twice, by transformers' modules without a cache and by the packed decoder over pages: a
prefill, then a row's next tokens at once; at the first positions of a row, and at the last that the run allows.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from specbatch.engine.general.model import CausalLM
from specbatch.engine.graphs.cuda_graphs import Capture
from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.describe.cut import CutModel, cut
from specbatch.engine.graphs.describe.describe import describe
from specbatch.engine.graphs.describe.description import DecoderDescription, NotDescribedError
from specbatch.engine.graphs.describe.rotary import rope_tables
from specbatch.engine.graphs.kv.paging import Tiles
from specbatch.engine.graphs.kv.pool import PagePool
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.graphs.stage import PackedAt, RowsAt

_TOKENS = 12
_AT_ONCE = 4  # of them, as a verification has them
_BOUND = 1e-4  # in float32, of the largest logit

_found: WeakKeyDictionary[CausalLM, tuple[int, str | None]] = WeakKeyDictionary()


def why_not(model: CausalLM) -> str | None:
    """What keeps a model off the fast path; None if nothing does. Found once, for the longest row of the run."""
    longest = model.longest
    if model not in _found or _found[model][0] != longest:
        _found[model] = longest, _why_not(model, longest)
    return _found[model][1]


def _why_not(model: CausalLM, longest: int) -> str | None:
    try:
        return why_wrong(model, describe(model.model, longest))
    except NotDescribedError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever a model's own code raises that is read, copied and run: the general path stands
        lines = str(error).strip().splitlines()
        return f"it cannot be run beside its description ({': '.join([type(error).__name__, *lines[:1]])})"


@torch.inference_mode()
def why_wrong(model: CausalLM, description: DecoderDescription) -> str | None:
    """What a description gets wrong about a model; None if nothing is found."""
    small, described = cut(model.model, description, model.longest)
    for first in dict.fromkeys([0, max(0, model.longest - _TOKENS)]):
        expected, actual = _own(small, first), _described(small, described, first)
        difference = float((actual - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
        if not difference <= _BOUND:
            return f"its logits would differ from those of its own modules by {difference:.2g} at position {first}"
    return None


def _ids(small: CutModel) -> Tensor:
    return torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]) % small.vocab_size


def _own(small: CutModel, first: int) -> Tensor:
    """Logits by the model's modules, of tokens from a position on.  # [_TOKENS, vocab]"""
    positions = torch.arange(first, first + _TOKENS)[None]
    logits: Tensor = small.model(input_ids=_ids(small)[None], position_ids=positions, use_cache=False).logits
    return logits[0, :, : small.vocab_size].float()


def _described(small: CutModel, description: DecoderDescription, first: int) -> Tensor:
    """The same by the description: a row that begins there, most of it in a prefill, the rest at once."""
    decoder = Decoder(small, TorchOps(), _TOKENS, description=description)
    ropes = rope_tables(decoder.rotary, description, range(first, first + _TOKENS))
    for stage in decoder.stages:
        stage.ropes = ropes
    pool = PagePool(decoder, 1, 1, _TOKENS)
    pool.grow(0, _TOKENS)
    pool.upload()
    ids, before, zeros = _ids(small), _TOKENS - _AT_ONCE, torch.zeros(_TOKENS, dtype=torch.int64)
    at = torch.arange(_TOKENS)
    packed = PackedAt(zeros[:before], at[:before], Tiles(torch.tensor([[0, 0, 0, before]], dtype=torch.int32)))
    rows = RowsAt(zeros[:1], at[before : before + 1], zeros[before:], at[before:])
    capture = Capture()
    parts = [
        decoder.logits(capture, *decoder.forward(capture, ids[:before], packed))[0],
        decoder.logits(capture, *decoder.forward(capture, ids[before:], rows))[0],
    ]
    return torch.cat(parts)[:, : small.vocab_size].float()
