"""The packed decoder over pages gives the model's own logits, whatever its shape and however its layers are spread."""

import copy

import pytest
import torch

from specbatch.engine.general.model import CausalLM
from specbatch.engine.graphs import cuda_graphs as graphs
from specbatch.engine.graphs import decoder as decoders
from specbatch.engine.graphs.cuda_graphs import Capture
from specbatch.engine.graphs.decoder import Decoder
from specbatch.engine.graphs.kv.paging import TILE, Tiles
from specbatch.engine.graphs.kv.pool import PagePool, page_bytes
from specbatch.engine.graphs.lanes import make_lanes
from specbatch.engine.graphs.reference import TorchOps
from specbatch.engine.graphs.stage import PackedAt, RowsAt, Stage
from tests.engine import tiny
from tests.engine.graphs import fast, models

LONGEST = 200
LENGTHS = (130, 3, 64, 71)


class Counting(Capture):
    """Counts moves to another stage's lane: on a CPU nothing moves."""

    moves: list = []  # of all instances: the engine makes its own  # noqa: RUF012

    def to_lane(self, lane, *tensors):
        self.moves.append(lane.device)
        return tensors


def sequences(lengths=LENGTHS, vocab=50):
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(0, vocab, (n,), generator=generator) for n in lengths]


def prepared(model, split=None, ops=None):
    """A decoder with pages for the sequences, row i in slot len - 1 - i."""
    decoder = Decoder(model if isinstance(model, CausalLM) else CausalLM(model), ops or TorchOps(), LONGEST)
    if split is not None:
        decoder.stages = spread(decoder.stages[0], split)
        decoder.run_on(make_lanes(decoder.devices))
    pool = PagePool(decoder, 20, len(LENGTHS), LONGEST)
    for slot, length in enumerate(reversed(LENGTHS)):
        pool.grow(slot, length)
    pool.upload()
    return decoder


def spread(stage, split):
    """One stage as two. cpu:0 is no other device, but another name."""
    return [
        Stage(torch.device("cpu"), stage.layers[:split], stage.ropes),
        Stage(torch.device("cpu", 0), stage.layers[split:], stage.ropes),
    ]


def packed(stretches):
    """Stretches (slot, start, tokens) as one packed forward, padded by two tokens."""
    tokens, slots, positions, tiles = [], [], [], []
    for slot, start, ids in stretches:
        begin = len(tokens)
        tiles += [(slot, begin + at, start + at, min(TILE, len(ids) - at)) for at in range(0, len(ids), TILE)]
        tokens += ids.tolist()
        slots += [slot] * len(ids)
        positions += range(start, start + len(ids))
    tokens, slots, positions, tiles = [*tokens, 0, 0], [*slots, 0, 0], [*positions, -1, -1], [*tiles, (0, 0, 0, 0)]
    at = PackedAt(torch.tensor(slots), torch.tensor(positions), Tiles(torch.tensor(tiles, dtype=torch.int32)))
    return torch.tensor(tokens), at


@torch.inference_mode()
def all_logits(decoder, rows=None):
    """Logits of every token: all but the last two of each row packed, these two of all rows side by side."""
    capture, rows = Capture(), rows or sequences()
    slots = list(range(len(rows)))[::-1]
    tokens, at = packed([(slot, 0, row[:-2]) for slot, row in zip(slots, rows, strict=True)])
    parts = [len(row) - 2 for row in rows]
    before = decoder.logits(capture, *decoder.forward(capture, tokens, at))[0][:-2].split(parts)
    first = torch.tensor(parts)
    positions = (first[:, None] + torch.arange(2)).reshape(-1)
    side_by_side = RowsAt(torch.tensor(slots), first, torch.tensor(slots).repeat_interleave(2), positions)
    hidden, at = decoder.forward(capture, torch.cat([row[-2:] for row in rows]), side_by_side)
    after = decoder.logits(capture, hidden, at)[0].view(len(rows), 2, -1)
    return [torch.cat(both) for both in zip(before, after, strict=True)]


@pytest.mark.parametrize("kind", models.KINDS)
@pytest.mark.parametrize("split", [None, 1, 2])
def test_logits_are_the_models_own(kind, split):
    model = models.build(kind)
    plain = copy.deepcopy(model)
    decoder = prepared(model, split)
    for row, mine in zip(sequences(), all_logits(decoder), strict=True):
        with torch.inference_mode():
            theirs = plain(row[None]).logits[0]
        torch.testing.assert_close(mine, theirs, rtol=2e-3, atol=2e-3)


def test_fill_writes_the_kv_that_forward_writes():
    model = models.build("qwen3")
    written = []
    for way in ("forward", "fill"):
        decoder = prepared(model, 2)
        tokens, at = packed([(3 - i, 0, row) for i, row in enumerate(sequences())])
        with torch.inference_mode():
            getattr(decoder, way)(Capture(), tokens, at)
        written.append([layer for stage in decoder.stages for layer in (*stage.pages.keys, *stage.pages.values)])
    for one, other in zip(*written, strict=True):
        assert torch.equal(one[1:], other[1:])  # page 0 is the padding page
        assert one[1:].any()


def test_stages_get_the_pages_of_their_own_layers_and_hidden_states_hop_between_them():
    decoder = prepared(models.build("llama"), 1)
    assert [len(stage.pages.keys) for stage in decoder.stages] == [1, 2]
    assert page_bytes(decoder)[torch.device("cpu", 0)] == 2 * page_bytes(decoder)[torch.device("cpu")]
    Counting.moves.clear()
    tokens, at = packed([(0, 0, torch.tensor([1, 2, 3]))])
    with torch.inference_mode():
        decoder.logits(Counting(), *decoder.forward(Counting(), tokens, at))
    assert torch.device("cpu", 0) in Counting.moves


def test_a_model_whose_rows_may_be_longer_than_its_own_positions_has_a_table_of_those():
    """Tokens drafted past a row's end may lie past the last embedding: they are cut off, but must not index out of it."""
    model = CausalLM(models.build("llama", max_position_embeddings=64))
    assert Decoder(model, TorchOps(), LONGEST).stages[0].ropes[""].shape == (64, 6)
    assert Decoder(model, TorchOps(), 10).stages[0].ropes[""].shape == (10, 6)


def test_a_head_on_another_device_than_the_norm_gets_normed_states(monkeypatch):
    """As accelerate leaves it where embedding and head are tied, and the layers end on another GPU."""
    model = models.build("qwen3, tied")
    decoder = prepared(model)
    hidden, at = torch.randn(5, 24), packed([(0, 0, torch.tensor([1, 2, 3]))])[1]
    expected, _ = decoder.logits(Capture(), hidden, at)

    class Elsewhere:
        """A head that says it is on another device."""

        device = torch.device("cpu", 0)

    real = decoder.head
    decoder.head = Elsewhere()
    monkeypatch.setattr(decoder.ops, "linear", lambda x, weight: torch.nn.functional.linear(x, real))
    torch.testing.assert_close(decoder.logits(Counting(), hidden, at)[0], expected)


@pytest.mark.slow
@pytest.mark.parametrize("k", [0, 3])
def test_a_target_in_two_stages_gives_the_same_tokens(pair, monkeypatch, k):
    real = decoders.Decoder.__init__

    def split(self, *args):
        real(self, *args)
        self.stages = spread(self.stages[0], 1)
        self.run_on(make_lanes(self.devices))

    monkeypatch.setattr(decoders.Decoder, "__init__", split)
    monkeypatch.setattr(graphs, "Capture", Counting)
    Counting.moves.clear()
    rows = fast.requests(pair.prompts)
    out, engine = fast.decode(pair.target, pair.twin, rows, max_sequences=8, num_speculative_tokens=k)
    assert tiny.tokens(out, len(rows)) == pair.expected
    assert engine.stats.acceptance_rate == (1.0 if k else 0.0)
    assert torch.device("cpu", 0) in Counting.moves
