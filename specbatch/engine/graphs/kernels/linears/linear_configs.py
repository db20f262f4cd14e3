"""Which tiles the linears of few tokens use: measured on an H100, those of quantized weights on an H200, not searched at run time.

Those of the tensor cores by `python -m benchmarks.linear --sweep`; those in registers in whole steps, since kernels that start
before the ones ahead of them have ended share the multiprocessors with them: timed alone, a linear says little.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

DOT_TOKENS = (8, 16, 32, 64)  # to which the tensor cores' right operand is padded
MANY = 128  # that a program takes of more: of quantized weights alone, which are read again for the others
FMA_TOKENS = 2
SCRATCH = 1 << 21  # floats of partial results
BRIEF = 16 << 20  # bytes: weights below this lie in all multiprocessors' registers (256 KB each) at once
MULTIPROCESSORS = 132  # of an H100; on another GPU the tables only fit less well


@dataclass(frozen=True, slots=True)
class Config:
    """Tile [block_n outputs, block_k inputs]; stages of loads in flight; programs that share a tile's inputs.

    fma: in registers, with as many inputs behind the tile's as there are
    """

    block_n: int
    block_k: int
    warps: int
    stages: int = 1
    split: int = 1
    fma: bool = False


# By padded tokens, for weights of two bytes.
_DOT = {
    8: Config(16, 256, 2, 4),
    16: Config(16, 256, 2, 4),
    32: Config(32, 128, 4, 5),
    64: Config(64, 128, 4, 4),
    MANY: Config(64, 128, 8, 3),
}
# Of one byte. A program reads all tokens' inputs, which soon are more bytes than its weights: so it has more outputs, and inputs are
# split among programs. No two warps have the same weights, which each would convert: 16 outputs a warp.
_DOT_SMALL = {
    8: Config(32, 256, 2, 4),
    16: Config(32, 256, 2, 4),
    32: Config(64, 128, 2, 4),
    64: Config(64, 128, 4, 4),
    MANY: Config(64, 128, 8, 3),
}
# Of int4, whose sums are of two products a step: with 8 warps for 64 outputs Triton would lay these out apart, and move sums between them.
_DOT_INT4 = {
    8: Config(32, 256, 2, 4),
    16: Config(32, 256, 2, 4),
    32: Config(64, 256, 4, 3),
    64: Config(64, 128, 4, 4),
    MANY: Config(64, 128, 4, 3),
}


def padded(tokens: int) -> int:
    """Tokens that a program of the tensor cores multiplies its weights with."""
    return next((most for most in DOT_TOKENS if tokens <= most), MANY)


def configured(
    tokens: int, outs: int, ins: int, size: float,
    *, gated: bool = False, ahead: bool = False, integers: bool = False, zeros: bool = False,
) -> Config:  # fmt: skip
    """The configuration for [tokens, ins] x [outs, ins], `size` bytes a value.

    Args:
        tokens: at most the last of DOT_TOKENS, where weights are not quantized.
        outs: of the gate alone where gated.
        ins: inputs.
        size: bytes of a value.
        gated: two linears, of gate and up.
        ahead: a norm is handed on or has been; of the tensor cores alone.
        integers: the weights are, see linear_dp4a.
        zeros: with zero points.
    """
    if not ahead and in_registers(tokens, int(outs * (1 + gated) * ins * size)):
        if integers:
            return words(int(ins * size) // 4, gated=gated, zeros=zeros)
        return registers(tokens, outs, ins, int(size), gated=gated)
    config = tensor_cores(tokens, outs, ins, size, whole=gated)
    if gated and tokens <= DOT_TOKENS[-1] and (config.block_n > 16 if size > 1 else config == _DOT_SMALL[32]):
        config = replace(config, block_n=config.block_n // 2)
    return config


def in_registers(tokens: int, weights: int) -> bool:
    """Whether so many tokens are better multiplied in registers than by the tensor cores, by the weights' bytes."""
    return tokens == 1 or (tokens <= FMA_TOKENS and weights < BRIEF)


def words(count: int, *, gated: bool, zeros: bool) -> Config:
    """As configured, of linear_dp4a: outputs share what making integers of the inputs takes, and few warps share an output.

    Args:
        count: words of an output.
        gated: as configured.
        zeros: as configured: their inputs take more, and more outputs share it.
    """
    warps = 1
    while warps < 8 and warps * (256 if zeros else 512) <= count:
        warps *= 2
    each = -(-count // (32 * warps))  # of an output, that a thread holds
    block_n = 1 << max((96 // (each * (1 + gated))).bit_length() - 1, 0)
    return Config(block_n, 1 << (count.bit_length() - 1), warps, fma=True)


def registers(tokens: int, outs: int, ins: int, size: int, *, gated: bool) -> Config:
    """As configured, in registers. A warp takes 1,024 inputs."""
    warps = 1
    while warps < 8 and warps * 1024 < ins:
        warps *= 2
    brief = outs * (1 + gated) * ins * size < BRIEF

    def outputs(each: int) -> int:
        """As many as give a thread at most so many weights of two bytes: a power of two."""
        most = each * 2 * 32 * warps // (size * ins * (1 + gated))
        return 1 << max(most.bit_length() - 1, 0)

    if size == 1:  # numbers of four bytes are made of them
        return Config(outputs(128 // tokens if brief else 64), 1 << (ins.bit_length() - 1), warps, fma=True)
    # One program a multiprocessor where that suffices; else brief weights all at once, long ones as they come.
    if tokens == 1 and outs <= MULTIPROCESSORS * outputs(256):
        return Config(outputs(256), 1 << (ins.bit_length() - 1), warps, fma=True)
    return Config(outputs(128 if brief else 64), 1 << (ins.bit_length() - 1), warps, fma=True)


def tensor_cores(tokens: int, outs: int, ins: int, size: float, *, whole: bool) -> Config:
    """As configured, never in registers alone; `whole`: a program needs all inputs."""
    config = (_DOT if size > 1 else _DOT_SMALL if size == 1 else _DOT_INT4)[padded(tokens)]
    if size == 4:
        return replace(config, block_k=64, warps=4, stages=2)
    if not whole and outs < config.block_n * MULTIPROCESSORS:
        if size <= 1 and 16 < tokens <= DOT_TOKENS[-1]:
            funnel = size == 1 and tokens <= 32 and outs <= 16 * MULTIPROCESSORS
            config = replace(config, block_n=32 if funnel else 64, block_k=256)
        most = SCRATCH // (-(-tokens // padded(tokens)) * padded(tokens) * (outs + config.block_n))
        split = next((s for s in (4, 2) if ins % (config.block_k * s) == 0 and s <= most), 1)
        config = replace(config, split=split)
    return config
