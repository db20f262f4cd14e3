"""Which rows of a batch read which shared pages together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ROWS = 16  # of a tile
LEAST_PAGES = 4  # that a tile's rows share: below that a pass of its own costs more


@dataclass(frozen=True, slots=True)
class PrefixTiles:
    """Tiles of rows that share their first pages, as the devices have them: of fixed sizes, so that captures stay valid.

    tiles: a slot that has the shared pages, how many these are (0: unused), places of the rows in the batch (-1: none)  # int32 [T, 2 + ROWS]
    shared: pages of each row that its tile has, by place  # int32 [slots]
    """

    tiles: Tensor
    shared: Tensor

    @classmethod
    def unused(cls, slots: int, device: torch.device) -> PrefixTiles:
        """Room for those of any batch."""
        tiles = torch.zeros(most_tiles(slots), 2 + ROWS, dtype=torch.int32, device=device)
        return cls(tiles, torch.zeros(slots, dtype=torch.int32, device=device))

    def of(self, rows: int) -> PrefixTiles:
        """Those of a bucket of rows."""
        return PrefixTiles(self.tiles[: most_tiles(rows)], self.shared[:rows])


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows, by their places in the batch, that share so many pages."""

    places: Sequence[int]
    pages: int

    @property
    def saved(self) -> int:
        """Pages that are read once in place of once for each of its rows."""
        return (len(self.places) - 1) * self.pages


def most_tiles(rows: int) -> int:
    """Tiles that so many rows may have: full ones, and as many that are not."""
    return 2 * -(-rows // ROWS)


def plan_tiles(held: Sequence[list[int]], most: int) -> list[Tile]:
    """Puts rows that share pages into tiles; those with the most to gain where there are more than `most`.

    Sorted by their pages, the rows between two share at least what these do.

    Args:
        held: of each row the pages that others may have, too.
        most: tiles.
    """
    tiles: list[Tile] = []
    places, pages = list[int](), 0
    for place in sorted(range(len(held)), key=lambda place: held[place]):
        common = _common(held[places[0]], held[place]) if places else 0
        if places and len(places) < ROWS and common >= LEAST_PAGES and (len(places) == 1 or 2 * common >= pages):
            places.append(place)
            pages = common if len(places) == 2 else min(pages, common)
        else:
            tiles.append(Tile(places, pages))
            places, pages = [place], 0
    tiles.append(Tile(places, pages))
    return sorted((tile for tile in tiles if tile.pages), key=lambda tile: tile.saved, reverse=True)[:most]


def lines(tiles: Sequence[Tile], slots: Sequence[int], size: int) -> tuple[Tensor, Tensor]:
    """As PrefixTiles has them, on the host.

    Args:
        tiles: of a batch.
        slots: of its rows.
        size: rows at once, at the most.
    """
    table = [[0, 0, *([-1] * ROWS)] for _ in range(most_tiles(size))]
    shared = [0] * size
    for line, tile in zip(table, tiles, strict=False):
        line[: 2 + len(tile.places)] = [slots[tile.places[0]], tile.pages, *tile.places]
        for place in tile.places:
            shared[place] = tile.pages
    return torch.tensor(table, dtype=torch.int32), torch.tensor(shared, dtype=torch.int32)


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many both begin with: by halves, since comparing slices costs next to nothing."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low
