"""Which tiles the linears of FP8 weights and inputs use: of Qwen3-8B on an H200, by benchmarks.peers.w8a8, not searched at run time."""

from __future__ import annotations

from dataclasses import dataclass, replace

from specbatch.engine.graphs.kernels.linears.linear_configs import MULTIPROCESSORS, SCRATCH

GROUP = 128


@dataclass(frozen=True, slots=True)
class Config:
    """Tile of block_n outputs and block_t tokens; stages of loads in flight; programs that share a tile's inputs.

    ahead: steps whose weights are asked for before the inputs are there
    early: the next kernel may start at once
    """

    block_n: int
    block_t: int
    warps: int
    stages: int
    split: int = 1
    ahead: int = 0
    early: bool = False

    @property
    def narrow(self) -> bool:
        """Whether the tensor cores get FP8: Hopper's take 64 outputs and more."""
        return self.block_n >= 64


@dataclass(frozen=True, slots=True)
class Few:
    """Of a token or two, in registers: block_n outputs a program; whether it rounds the inputs itself."""

    block_n: int
    warps: int
    rounds: bool = True


# By padded tokens, and how many programs may share outputs that are too few. Those below 32 were not measured.
_TILES = {
    8: (Config(16, 8, 2, 8), 4 * MULTIPROCESSORS),
    16: (Config(64, 16, 4, 6), 3 * MULTIPROCESSORS),
    32: (Config(64, 32, 4, 5), 3 * MULTIPROCESSORS),
    64: (Config(64, 64, 4, 5), 2 * MULTIPROCESSORS),
    128: (Config(64, 128, 4, 5), MULTIPROCESSORS),
}
_MOST = max(_TILES)  # tokens of a tile


def few(tokens: int, ins: int, *, gated: bool = False) -> Few:
    """In registers: so many weights a thread that several programs fit a multiprocessor."""
    warps = 1
    while warps < 8 and warps * 1024 < ins:
        warps *= 2
    outs = 256 * 32 * warps // (ins * tokens * (1 + gated))
    return Few(1 << max(outs.bit_length() - 1, 0), warps, rounds=ins <= 8192)


def configured(tokens: int, outs: int, ins: int, *, gated: bool = False, rounds: bool = False) -> Config:
    """The tile for [tokens, ins] x [outs, ins]; `rounds`: of as many outputs as the next linear's groups have."""
    config, programs = _TILES[next((size for size in _TILES if tokens <= size), _MOST)]
    if gated and config.block_t == _MOST:
        config = replace(config, warps=8, stages=4)
    elif gated and rounds and config.narrow and outs % GROUP == 0:
        config = replace(config, block_n=GROUP, warps=8, stages=4 if config.block_t <= 32 else 5)
    tiles = -(-outs // config.block_n) * -(-tokens // config.block_t)
    cells = tiles * config.block_n * config.block_t * (1 + gated)
    fitting = (s for s in (4, 2) if ins % (GROUP * s) == 0 and tiles * s <= programs and cells * s <= SCRATCH)
    return replace(config, split=next(fitting, 1)) if tiles < MULTIPROCESSORS // (1 + gated) else config
