"""Functions compiled to machine code at their first use, and kept for later processes: Numba, where it works."""

import gc
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

numba: Any
Compiler: Any
FunctionCache: Any
JITCodeLibrary: Any
try:
    import numba
    from numba.core.caching import FunctionCache
    from numba.core.codegen import JITCodeLibrary, get_host_cpu_features
    from numba.core.compiler import Compiler
    from numba.core.registry import cpu_target
    from numba.extending import intrinsic

    AVAILABLE = not numba.config.DISABLE_JIT
    if numba.config.CPU_FEATURES is None and AVAILABLE:
        # LLVM keeps to vectors half as wide on Intel's AVX-512, for the sake of code that only now and then uses them.
        numba.config.CPU_FEATURES = get_host_cpu_features() + ",-prefer-256-bit"
except Exception:  # missing, or broken in one of the many ways of a compiler: each kernel has another way
    Compiler, FunctionCache, JITCodeLibrary, AVAILABLE = object, object, object, False


# A division by zero gives infinity, as NumPy's: a check at each would keep loops from being vectorized.
# A product and a sum may be rounded once (FMA); nothing else about the arithmetic is loosened.
OPTIONS = {"nogil": True, "no_cfunc_wrapper": True, "error_model": "numpy", "fastmath": {"contract"}}


def processor_has(feature: str) -> bool:
    """Whether code is compiled for processors that have it, as LLVM names it: `avx512f`.

    The target knows, and no setting does: Numba compiles for what it was told when somebody first used it.
    """
    return AVAILABLE and f"+{feature}" in cpu_target.target_context.codegen().magic_tuple()[2].split(",")


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as machine code that runs beside other threads; the function itself without Numba.

    It is told of flat arrays, and writes into what it is given (`Scratch` in `cores.py` is room for what lies between):
    to reshape an array there, or to make one, takes longer to compile than most of what is done with it.
    """
    if not AVAILABLE:
        return function
    machine_code = numba.njit(pipeline_class=_Compiler, **OPTIONS)(function)
    with suppress(RuntimeError):  # no folder that could keep it: compiled anew in each process
        machine_code._cache = _Kept(function)
    whole: Callable[..., Any] = machine_code
    return whole


def compiled_part(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same for what only compiled functions call: it becomes a part of each that calls it, and nothing by itself.

    It cannot print, nor raise an error that names what it was given: for that Numba needs Python's objects.

    A branch on whether an argument is None is taken away when it is compiled, so what is not needed costs nothing:
    flags are None or not, for that.
    """
    if not AVAILABLE:
        return function
    part: Callable[..., Any] = numba.njit(
        forceinline=True, no_cpython_wrapper=True, pipeline_class=_CompilerOfParts, **OPTIONS
    )(function)
    return part


def in_llvm(typed: Callable[..., Any]) -> Any:
    """What compiled functions call and LLVM's words say: `typed(types, *argument types)` gives a signature, and a
    function that writes them. It is told of numbers that stand in the code. None without Numba."""
    return intrinsic(prefer_literal=True)(typed) if AVAILABLE else None


class _Part(JITCodeLibrary):  # type: ignore[misc]
    """A part, for those who call it. By itself it is neither optimized nor made machine code: that would be the half of
    all compiling, and callers could take it instead of making the part their own, where a product and a sum may be
    rounded once that are rounded twice in the other, to other bits."""

    def _optimize_functions(self, module: Any) -> None:
        """Nothing."""

    def finalize(self) -> None:
        """Takes in the parts that it calls itself."""
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """None: there is no machine code."""
        self._ensure_finalized()
        return 0

    @property
    def codegen(self) -> "_Part":
        """Whom Numba tells what Python's objects a function needs: none."""
        return self

    def set_env(self, *_: Any) -> None:
        """Nothing."""


class _Compiler(Compiler):  # type: ignore[misc]
    def compile_extra(self, function: Any) -> Any:
        """Numba's own. No garbage is looked for meanwhile: there is little, among millions of things that are none."""
        collects = gc.isenabled()
        gc.disable()
        try:
            return super().compile_extra(function)
        finally:
            if collects:
                gc.enable()


class _CompilerOfParts(_Compiler):
    def define_pipelines(self) -> Any:
        """Numba's own, with a library of ours."""
        self.state.library = _Part(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        return super().define_pipelines()


@lru_cache(1)
def _sources() -> str:
    """A digest of all kernels' source: Numba looks at a function's own file, and not at those of what it calls."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


class _Kept(FunctionCache):  # type: ignore[misc]
    """Numba's cache, of which nothing is an error: what is damaged is made anew, what has no room is not kept."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = self._cache_file._source_stamp, _sources()

    def load_overload(self, signature: Any, *where: Any) -> Any:
        """The machine code for these types, or None.

        Two processes that keep a function's code for two signatures at once may have given both one name.
        """
        with suppress(Exception):
            found = super().load_overload(signature, *where)
            if found is None or found.signature.args == tuple(signature):
                return found
        with suppress(OSError):
            self.flush()
        return None

    def save_overload(self, *what: Any) -> None:
        """Keep it, if that can be done."""
        with suppress(OSError):
            super().save_overload(*what)
