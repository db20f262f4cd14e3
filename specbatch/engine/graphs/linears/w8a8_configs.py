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


@dataclass(frozen=True, slots=True)
class Few:
    """Of a token or two, in registers: block_n outputs a program; whether each rounds all inputs by itself."""

    block_n: int
    warps: int
    rounds: bool = True


# Programs at once, of tiles of 64 outputs, by padded tokens; more would only sum more parts.
_PROGRAMS = {16: 3 * MULTIPROCESSORS, 32: 3 * MULTIPROCESSORS, 64: 2 * MULTIPROCESSORS, 128: MULTIPROCESSORS}
_MOST = max(_PROGRAMS)  # tokens of a tile
_BRIEF = (
    MULTIPROCESSORS << 18
)  # bytes: of weights below this, rounding in every program takes no longer than a kernel for it


def few(tokens: int, outs: int, ins: int, *, gated: bool = False) -> Few:
    """In registers: so many weights a thread that several programs fit a multiprocessor; outputs of the gate alone where `gated`."""
    warps = 1
    while warps < 8 and warps * 1024 < ins:
        warps *= 2
    most = 256 * 32 * warps // (ins * tokens * (1 + gated))
    return Few(1 << max(most.bit_length() - 1, 0), warps, rounds=outs * (1 + gated) * ins <= _BRIEF)


def configured(tokens: int, outs: int, ins: int, *, gated: bool = False, rounds: bool = False) -> Config:
    """The tile for [tokens, ins] x [outs, ins].

    Args:
        tokens: of which a program takes 128 at most.
        outs: of the gate alone where gated.
        ins: inputs.
        gated: two linears, of gate and up.
        rounds: the next linear's inputs are in groups: a tile as large as these rounds them.
    """
    block_t = next((size for size in _PROGRAMS if tokens <= size), _MOST)
    if block_t == _MOST:
        config = Config(64, block_t, 8, 4) if gated else Config(64, block_t, 4, 5)
    elif gated and rounds and outs % GROUP == 0 and block_t <= 32:
        config = Config(GROUP, block_t, 8, 3, ahead=2, early=True)
    else:
        config = Config(64, block_t, 4, 4, ahead=1 if gated and block_t == 64 else 2, early=True)
    tiles = -(-outs // config.block_n) * -(-tokens // block_t)
    cells = tiles * config.block_n * block_t * (1 + gated)
    fitting = (s for s in (4, 2) if ins % (GROUP * s) == 0 and tiles * s <= _PROGRAMS[block_t] and cells * s <= SCRATCH)
    if tiles < MULTIPROCESSORS // (1 + gated):
        config = replace(config, split=next(fitting, 1))
    if not gated and (block_t == 16 or (block_t == 32 and tiles * config.split <= 2 * MULTIPROCESSORS)):
        config = replace(config, ahead=4)  # all programs fit the multiprocessors with these, too
    return config
