"""FLAME pickles with arrays of numpy, chumpy and scipy under old and new names, and hostile pickles."""

from __future__ import annotations

import io
import pickle
import struct
import sys
from types import ModuleType
from typing import ClassVar

import numpy as np
from scipy.sparse import csc_matrix


class Ch:
    """A chumpy array as it appears in a pickle."""

    def __init__(self, x: np.ndarray) -> None:
        self.x, self._dirty_vars, self._itr, self._depends_on_deps = x, {"x"}, None, {}


def write_pickle(content: object, protocol: int, old_names: bool) -> bytes:
    """Pickle with chumpy's real names, and with old or new names of numpy and scipy."""
    module = ModuleType("chumpy.ch")
    module.Ch, Ch.__module__, Ch.__qualname__ = Ch, "chumpy.ch", "Ch"
    sys.modules |= {"chumpy": ModuleType("chumpy"), "chumpy.ch": module}
    try:
        written = pickle.dumps(content, protocol)
    finally:
        del sys.modules["chumpy"], sys.modules["chumpy.ch"]
    if protocol >= 4:  # these say how long a name is
        return written
    for new, old in ((b"scipy.sparse._csc", b"scipy.sparse.csc"), (b"numpy._core", b"numpy.core")):
        written = written.replace(new, old) if old_names else written.replace(old, new)
    return written


def flame_content(arrays: dict[str, np.ndarray], chumpy: bool, opened: bool = False) -> dict:
    """The dictionary in a FLAME file."""
    wrap = Ch if chumpy else lambda array: array
    content = {
        "J_regressor": csc_matrix(arrays["J_regressor"]),
        "f": arrays["f"].astype(np.uint32),
        "kintree_table": arrays["kintree_table"].astype(np.uint32),
        "J": np.zeros((5, 3)),
        "weights": arrays["weights"],
        "posedirs": np.asfortranarray(arrays["posedirs"]),
        "v_template": wrap(arrays["v_template"]),
        "shapedirs": wrap(arrays["shapedirs"]),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }
    return content | ({"supr_expression_metadata": {"num": 100}} if opened else {})


def as_python2_wrote_it(content: object) -> bytes:
    """Pickle with protocol 2, with text and bytes as Python 2 strings."""

    class Pickler(pickle._Pickler):
        dispatch: ClassVar = dict(pickle._Pickler.dispatch)

        def save_string(self, value: str | bytes) -> None:
            raw = value.encode("latin1") if isinstance(value, str) else value
            self.write(b"T" + struct.pack("<I", len(raw)) + raw)

        dispatch[bytes] = dispatch[str] = save_string

    stream = io.BytesIO()
    Pickler(stream, 2).dump(content)
    return stream.getvalue()


class _Call:
    def __init__(self, function: object, arguments: tuple) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


def hostile_calls(marker: str) -> dict[str, object]:
    """Objects that run code when they are unpickled. Each would create the marker file."""
    import functools
    import os
    import subprocess

    touch = f"touch {marker}"
    return {
        "os.system": _Call(os.system, (touch,)),
        "subprocess": _Call(subprocess.check_output, (["touch", marker],)),
        "eval": _Call(eval, (f"open({marker!r}, 'w')",)),
        "exec": _Call(exec, (f"open({marker!r}, 'w')",)),
        "getattr": _Call(getattr, (marker, "title")),
        "numpy.load": _Call(np.load, (marker,)),
        "partial": _Call(functools.partial, (os.system, touch)),
        "open": _Call(open, (marker, "w")),
    }


def hostile_opcodes(marker: str) -> dict[str, bytes]:
    """The same with opcodes that `pickle.dumps` does not write."""
    command = f"touch {marker}"
    text = command.encode()
    return {
        "INST": b"(S'" + text + b"'\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nS'" + text + b"'\no.",
        "GLOBAL REDUCE": b"cos\nsystem\n(S'" + text + b"'\ntR.",
        "STACK_GLOBAL": b"\x80\x04" + _stack_global(b"os", b"system") + b"\x8c" + bytes([len(text)]) + text + b"\x85R.",
        "NEWOBJ": b"\x80\x02csubprocess\nPopen\n(S'" + text + b"'\nt\x81.",
        "NEWOBJ_EX": b"\x80\x04" + _stack_global(b"subprocess", b"Popen") + b"(S'" + text + b"'\nt}\x92.",
        "BUILD on a name": b"cnumpy\nndarray\n}S'__setstate__'\ncos\nsystem\nsbS'" + text + b"'\nb.",
        "BUILD with slots": b"cnumpy\ndtype\n(N}S'make'\ncos\nsystem\nstb.",
        "EXT": b"\x80\x02\x82\x01.",
        "PERSID": b"P" + text + b"\n.",
        "dotted name": b"\x80\x04" + _stack_global(b"numpy", b"ndarray.__class__") + b".",
        "module of a name": b"\x80\x04" + _stack_global(b"numpy.core.multiarray", b"os") + b".",
        "reconstructor of a class": b"ccopy_reg\n_reconstructor\n(csubprocess\nPopen\nc__builtin__\nobject\nNtR.",
        "reconstructor of itself": b"ccopy_reg\n_reconstructor\n(ccopy_reg\n_reconstructor\nc__builtin__\nobject\nNtR.",
    }


def _stack_global(module: bytes, name: bytes) -> bytes:
    return b"\x8c" + bytes([len(module)]) + module + b"\x8c" + bytes([len(name)]) + name + b"\x93"


def bombs() -> dict[str, bytes]:
    """Small pickles that would use up memory or time."""
    nested = b")" + b"2\x86" * 64  # a pair of the last value twice, again and again
    return {
        "bytes that are not there": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".",
        "byte array that is not there": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",
        "text that is not there": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b".",
        "frame that is not there": b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b".",
        "memo far away": b"]r\xff\xff\xff\xff.",
        "a key that takes forever to hash": b"\x80\x04}" + nested + b"Ns.",
        "a set that takes forever to hash": b"\x80\x04\x8f(" + nested + b"\x90.",
        "lists without end": b"(" * 20_000 + b"l" * 20_000 + b".",
        "a long number": b"L" + b"9" * 100_000 + b"L\n.",
        "array of a shape that is not there": pickle.dumps(np.zeros(3), 2).replace(
            b"K\x03\x85", b"J\xff\xff\xff\x7f\x85"
        ),
    }
