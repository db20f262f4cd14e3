"""Without a GPU the kernels run in Triton's interpreter, which has to be asked for before they are imported."""

import functools
import os
import sys

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

    import triton.language as tl
    from triton.runtime import JITFunction, interpreter

    # torch may have imported Triton long before, whose own functions were then compiled ones.
    for _module in (tl, tl.standard):
        for _name, _function in list(vars(_module).items()):
            if isinstance(_function, JITFunction):
                setattr(_module, _name, interpreter.InterpretedFunction(_function.fn))

    _patch, _patched = interpreter._patch_lang, set()
    _patch_tensor = interpreter._patch_lang_tensor
    _dot = interpreter.InterpreterBuilder.create_dot
    _mul = interpreter.InterpreterBuilder.create_fmul
    _cast = interpreter.InterpreterBuilder.cast_impl
    _to_fp8 = interpreter.InterpreterBuilder.create_fp_to_fp
    _compile = interpreter.FunctionRewriter._compile_and_exec

    def _patch_once(fn):
        # For good: doing so for every kernel and function anew, and undoing it, takes half of the interpreter's time.
        languages = {value.__name__ for value in fn.__globals__.values() if value is tl or value is tl.core}
        if not languages <= _patched:
            _patch(fn)
            _patched.update(languages)
        return interpreter._LangPatchScope()  # with nothing to undo

    def _patched_tensor(tensor, scope):
        _patch_tensor(tensor, scope)
        # NumPy 2.4 refuses int() of an array of one element, which the interpreter takes of a loop's bounds.
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    def _patched_dot(self, a, b, d, *rest):
        # The interpreter keeps bfloat16 as bits, and multiplies the bits.
        return _dot(self, _wide(a), _wide(b), d, *rest)

    def _wide(a):
        if a.dtype.scalar != tl.bfloat16:
            return a
        return interpreter.TensorHandle((a.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    def _patched_to_fp8(self, src, dst_type, *rounding):
        # The interpreter cuts off what is subnormal in FP8, which a GPU rounds.
        if (src.dtype.scalar, dst_type.scalar) != (tl.float32, tl.float8e4nv):
            return _to_fp8(self, src, dst_type, *rounding)
        few = torch.from_numpy(np.array(src.data, ndmin=1)).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
        return interpreter.TensorHandle(few.reshape(np.shape(src.data)), tl.float8e4nv)

    def _patched_cast(self, src, dst_type):
        # The interpreter cuts off what a GPU rounds, and takes an integer's bits for a bfloat16's.
        if src.dtype.scalar.is_int() and dst_type.scalar == tl.bfloat16:
            src = _cast(self, src, tl.float32)
        if (src.dtype.scalar, dst_type.scalar) != (tl.float32, tl.bfloat16):
            return _cast(self, src, dst_type)
        rounded = torch.from_numpy(np.array(src.data, ndmin=1)).bfloat16().view(torch.int16).numpy()
        return interpreter.TensorHandle(rounded.view(np.uint16).reshape(np.shape(src.data)), tl.bfloat16)

    def _patched_mul(self, a, b):
        # As of _patched_dot.
        if a.dtype.scalar != tl.bfloat16:
            return _mul(self, a, b)
        return _patched_cast(self, _mul(self, _wide(a), _wide(b)), tl.bfloat16)

    def _counted(self, tree):
        # The interpreter compiles a kernel anew, without the probes that make test counts lines by (pyproject.toml).
        kernel = _compile(self, tree)
        if counter := getattr(sys.modules.get("slipcover.pytest_plugin"), "_slipcover_instance", None):
            counter.instrument(kernel)
        return kernel

    interpreter._patch_lang = _patch_once
    interpreter.FunctionRewriter._compile_and_exec = _counted
    interpreter._patch_lang_tensor = _patched_tensor
    interpreter.InterpreterBuilder.cast_impl = _patched_cast
    interpreter.InterpreterBuilder.create_fp_to_fp = _patched_to_fp8
    interpreter.InterpreterBuilder.create_fmul = _patched_mul
    interpreter.InterpreterBuilder.create_dot = _patched_dot


@pytest.fixture(scope="module")
def pairs():
    """The embedded pair on the first GPU by dtype, loaded once each."""
    from tests.engine.graphs.gpu import embedded

    return functools.cache(embedded.load_pair)
