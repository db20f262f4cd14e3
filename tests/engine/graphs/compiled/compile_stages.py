"""How far compile_for compiles each kernel: all until their shared memory is known, and those with an operation that is new to machine code.

What Triton does once memory is allocated it does operation by operation, and that takes three quarters of the time: a kernel of other
sizes has the same operations, of the same types and layouts.
"""

import re

from triton import knobs
from triton.backends.nvidia.compiler import CUDABackend


class AllocatedError(Exception):
    """Memory is allocated."""


class Stages:
    """Triton's stages, cut short where they would tell nothing new; a cache of its own holds what comes of that."""

    def __init__(self, cache):
        self.translated = set()
        self.module = None
        knobs.cache.dir = cache
        knobs.compilation.disable_line_info = True
        knobs.runtime.add_stages_inspection_hook = self

    def __call__(self, backend=None, stages=None, *_):
        """Called by Triton; without arguments for what it adds to the keys of its caches."""
        if backend is not None:
            llir, ptx, cubin = (stages[name] for name in ("llir", "ptx", "cubin"))
            stages["llir"] = lambda module, metadata: self.translate(llir, module, metadata)
            stages["ptx"] = lambda code, metadata: code and ptx(code, metadata)
            stages["cubin"] = lambda code, metadata: cubin(code, metadata) if code else b""
        return __name__, __name__

    def translate(self, llir, module, metadata):
        """LLVM's code, or nothing."""
        new = operations(str(module)) - self.translated
        self.translated |= new
        self.module, CUDABackend.instrumentation = module, None if new else self
        try:
            return llir(module, metadata)
        except AllocatedError:
            metadata |= {"shared": module.get_int_attr("ttg.shared"), "name": "kernel"}
            return ""
        finally:
            CUDABackend.instrumentation = None

    def patch(self, point, passes, _):
        """Called by Triton between its passes, for the first time behind those that allocate memory."""
        passes.run(self.module, point)
        raise AllocatedError


def operations(module):
    """What a kernel has of operations, with their attributes, and the layouts and types of elements, without sizes."""
    lines = (re.sub(r"%[\w:#]+|\bloc\(.*|\d+x", "", line) for line in module.splitlines())
    return {re.sub(r"(?<![a-z])-?\d[\w.+-]*|(?<=#)([a-z_]+)\d+", r"\1", line).strip() for line in lines}
