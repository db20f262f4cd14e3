"""What rows share is read once for all of them, and gives what attention to all pages gives."""

import random

import pytest
import torch

pytest.importorskip("triton")

from specbatch.engine.graphs.cascade import kernel, reference
from specbatch.engine.graphs.cascade.tiles import (
    LEAST_PAGES,
    ROWS,
    PrefixTiles,
    Tile,
    lines,
    most_tiles,
    plan_tiles,
)
from specbatch.engine.graphs.describe.description import PLAIN, AttentionKind
from specbatch.engine.graphs.kv.paging import PAGE, Pages
from specbatch.engine.graphs.reference import TorchOps

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CLOSE = {torch.float32: 2e-5, torch.bfloat16: 3e-2}


def batch(groups, alone, n, heads, kv_heads, head_dim, dtype):
    """Rows by groups of (rows, shared pages), and some that share nothing: KV of NaN where no row has any."""
    chance, held = random.Random(3), []
    free = list(range(1, 400))
    chance.shuffle(free)
    for rows, shared in groups:
        pages = [free.pop() for _ in range(shared)]
        held += [[*pages, *(free.pop() for _ in range(2))] for _ in range(rows)]
    held += [[free.pop() for _ in range(3)] for _ in range(alone)]
    chance.shuffle(held)
    lengths = [PAGE * (len(pages) - 2) + chance.randint(1, 2 * PAGE - n) for pages in held]
    slots = torch.randperm(len(held) + 2)[: len(held)]
    table = torch.zeros(len(held) + 3, max(map(len, held)), dtype=torch.int32)
    kv = torch.full((2, 400, kv_heads, PAGE, head_dim), float("nan"))
    for slot, pages, length in zip(slots.tolist(), held, lengths, strict=True):
        table[slot, : len(pages)] = torch.tensor(pages, dtype=torch.int32)
        for j, page in enumerate(pages):
            valid = max(0, min(PAGE, length + n - j * PAGE))
            fill = torch.isnan(kv[0, page, 0, :valid, 0]).nonzero()[:, 0]
            kv[:, page, :, fill] = torch.randn(2, kv_heads, len(fill), head_dim)
    keys, values = kv.to(DEVICE, dtype).unbind(0)
    shareable = [pages[:-2] for pages in held]
    tiles = plan_tiles(shareable, most_tiles(len(held)))
    table_of, shared = lines(tiles, slots.tolist(), len(held))
    q = torch.randn(len(held), n, heads, head_dim, device=DEVICE).to(dtype)
    prefixes = PrefixTiles(table_of.to(DEVICE), shared.to(DEVICE))
    return (
        q,
        Pages([keys], [values], table.to(DEVICE)),
        slots.to(DEVICE),
        torch.tensor(lengths, device=DEVICE),
        prefixes,
    )


def check(groups, alone, n, heads, kv_heads, head_dim, dtype=torch.float32, kind=PLAIN, **options):
    q, pages, slots, first, prefixes = batch(groups, alone, n, heads, kv_heads, head_dim, dtype)
    assert int(prefixes.shared.sum()) > 0
    clean = Pages(
        *([kv.float().nan_to_num(0.0) for kv in layers] for layers in (pages.keys, pages.values)), pages.table
    )
    whole = TorchOps().attend_rows(q.float(), clean, 0, slots, first, head_dim**-0.5, kind)
    for attend in (kernel.attend_cascade, reference.attend_cascade):
        given = options if attend is kernel.attend_cascade else {}
        out = attend(q, pages, 0, slots, first, prefixes, head_dim**-0.5, kind, **given)
        torch.testing.assert_close(out.float(), whole, rtol=CLOSE[dtype], atol=CLOSE[dtype])


@pytest.mark.slow
@pytest.mark.parametrize("splits", [1, 3, None])
@pytest.mark.parametrize(("n", "heads", "kv_heads", "head_dim"), [(1, 4, 2, 16), (3, 8, 2, 24)])
def test_rows_attend_to_all_their_pages(n, heads, kv_heads, head_dim, splits):
    check([(3, 4), (2, 7)], 2, n, heads, kv_heads, head_dim, splits=splits)


@pytest.mark.slow
def test_more_rows_than_a_tile_has_and_several_programs_a_tile():
    check([(ROWS + 3, 5)], 1, 4, 8, 1, 16, splits=2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [PLAIN, AttentionKind(softcap=5.0)])
def test_of_bfloat16_and_of_capped_scores(kind):
    check([(4, 4)], 1, 2, 4, 2, 32, torch.bfloat16, kind)


def test_rows_that_share_pages_stand_in_a_tile_with_what_all_of_them_share():
    system, document, other = list(range(1, 6)), list(range(10, 20)), list(range(30, 33))
    held = [
        [*system, *document, 50],
        [*system, *other],
        [*system, *document, 51],
        [90, 91, 92, 93, 94],
        [*system, *document],
    ]
    assert plan_tiles(held, 9) == [Tile([0, 2, 4], 15)] or {*plan_tiles(held, 9)[0].places} == {0, 2, 4}
    assert plan_tiles(held, 9)[0].pages == 15
    assert plan_tiles([[1, 2, 3], [1, 2, 3], [7]], 9) == []  # too few pages
    assert LEAST_PAGES > 3


def test_a_tile_has_so_many_rows_and_the_best_are_kept_where_there_are_too_many():
    many = [[1, 2, 3, 4, 5]] * (2 * ROWS + 1)
    assert [len(tile.places) for tile in plan_tiles(many, 9)] == [ROWS, ROWS]
    few, long = [[1, 2, 3, 4]] * 2, [list(range(10, 40))] * 2
    assert plan_tiles([*few, *long], 1) == [Tile([2, 3], 30)]
    assert [tile.saved for tile in plan_tiles(many, 9)] == [5 * (ROWS - 1)] * 2


def test_every_row_is_in_one_tile_at_the_most_and_has_its_pages():
    chance = random.Random(1)
    documents = [[chance.randrange(10**6) for _ in range(chance.randint(1, 12))] for _ in range(6)]
    held = [[*chance.choice(documents), *([chance.randrange(10**6)] * chance.randint(0, 2))] for _ in range(100)]
    tiles = plan_tiles(held, most_tiles(100))
    places = [place for tile in tiles for place in tile.places]
    assert len(places) == len({*places})
    for tile in tiles:
        assert tile.pages >= LEAST_PAGES
        assert len({tuple(held[place][: tile.pages]) for place in tile.places}) == 1
    table, shared = lines(tiles, list(range(100)), 100)
    assert table.shape == (most_tiles(100), 2 + ROWS)
    assert sorted(place for line in table[:, 2:].tolist() for place in line if place >= 0) == sorted(places)
    assert int((shared > 0).sum()) == len(places)
