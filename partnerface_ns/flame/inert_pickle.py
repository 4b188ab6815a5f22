"""Pickles read without running anything that is in them.

A pickle names functions and classes and calls them. Here the few names that a file needs stand for inert records of
what was pickled, and every other name is refused before anything is made of it. What pickles can do besides (make
objects in other ways, change what was named, keys that take forever to hash, sizes that are not there) is refused too.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any, ClassVar


class PickledObject:
    """Something that was pickled: what it was called with, and its state. It does nothing."""

    __slots__ = ("arguments", "state")

    def __init__(self, *arguments: Any) -> None:
        self.arguments, self.state = arguments, None

    def build(self, state: Any) -> None:
        self.state = state


class EmptyArray(PickledObject):
    """numpy's array before its state; that of a real one holds no element yet."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if len(arguments) != 3 or not isinstance(arguments[0], _Name) or arguments[1] != (0,):
            raise pickle.UnpicklingError("an array that is not made as numpy makes one")


class BufferArray(PickledObject):
    """numpy's array of protocol 5: bytes, type, shape, order."""


class Dtype(PickledObject):
    """numpy's type of elements, which has no parts."""

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("a type that is not numpy's")
        if state[2:5] != (None, None, None):
            raise pickle.UnpicklingError("a type that has parts")
        self.state = state


class NumberDtype(Dtype):
    """numpy's type of numbers."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if not arguments or arguments[0] not in NUMBER_DTYPES:
            raise pickle.UnpicklingError("a type that is not a number's")


class Scalar(PickledObject):
    """A single number of numpy's."""


class EncodedBytes(PickledObject):
    """Bytes that protocols below 3 write as text."""


class Chumpy(PickledObject):
    """An array of chumpy's, with the numbers in its state."""


class SparseColumns(PickledObject):
    """scipy's sparse matrix of columns."""


class Set(PickledObject):
    """A set, whose members do not matter here."""


class Type(PickledObject):
    """A class that is an argument only."""


Names = Mapping[tuple[str, str], type[PickledObject]]
"""What a name, as module and name in it, stands for."""
NUMBER_DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
NUMPY_NAMES: Names = {
    ("numpy", "ndarray"): Type,
    ("numpy", "dtype"): NumberDtype,
    ("_codecs", "encode"): EncodedBytes,
    **{
        (f"numpy.{core}.{module}", name): record
        for core in ("core", "_core")
        for module, name, record in (
            ("multiarray", "_reconstruct", EmptyArray),
            ("multiarray", "scalar", Scalar),
            ("numeric", "_frombuffer", BufferArray),
        )
    },
}
"""Arrays of numbers."""
FLAME_NAMES: Names = {
    **NUMPY_NAMES,
    ("numpy", "dtype"): Dtype,
    ("chumpy.ch", "Ch"): Chumpy,
    ("scipy.sparse.csc", "csc_matrix"): SparseColumns,
    ("scipy.sparse._csc", "csc_matrix"): SparseColumns,
    **{(module, "set"): Set for module in ("__builtin__", "builtins")},
    **{(module, "object"): Type for module in ("__builtin__", "builtins")},
}
"""What FLAME files hold, with sets and arrays that are of no interest."""
_MAKERS = (("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor"))
"""How protocols 0 and 1 make an object of the class that is their first argument."""


class _Name:
    """A name out of the pickle that stands for a record; immutable, and no class or function itself."""

    __slots__ = ("_record",)

    def __init__(self, record: type[PickledObject] | None) -> None:
        object.__setattr__(self, "_record", record)

    def __setattr__(self, name: str, value: object) -> None:
        raise pickle.UnpicklingError("a name cannot be changed")

    def make(self, arguments: object) -> PickledObject:
        if not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("arguments that are not a tuple")
        if self._record is not None:
            return self._record(*arguments)
        if not arguments or not isinstance(arguments[0], _Name) or arguments[0]._record is None:
            raise pickle.UnpicklingError("an object of no class")
        return arguments[0].make(())


class _Unpickler(pickle._Unpickler):  # type: ignore[name-defined]
    """The interpreter's own in Python, with every way to make or change an object replaced.

    The one in C is not used: it reserves as much memory as a file tells it to.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]

    def __init__(self, content: bytes, names: Names) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
        self._names = names

    def find_class(self, module: str, name: str) -> _Name:
        if (module, name) in _MAKERS:
            return _Name(None)
        if (module, name) not in self._names:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _Name(self._names[module, name])

    def _reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.append(_require(function, _Name).make(arguments))

    def _build(self) -> None:
        state = self.stack.pop()
        _require(self.stack[-1], PickledObject).build(state)

    def _dict(self) -> None:
        items = self.pop_mark()
        self.append(_keyed(items))

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _require(self.stack[-1], dict).update(_keyed([key, value]))

    def _set_items(self) -> None:
        items = self.pop_mark()
        _require(self.stack[-1], dict).update(_keyed(items))

    def _append_item(self) -> None:
        value = self.stack.pop()
        _require(self.stack[-1], list).append(value)

    def _append_items(self) -> None:
        items = self.pop_mark()
        _require(self.stack[-1], list).extend(items)

    def _empty_set(self) -> None:
        self.append(Set())

    def _add_items(self) -> None:
        items = self.pop_mark()
        _require(self.stack[-1], Set).arguments = tuple(items)

    def _frozen_set(self) -> None:
        items = self.pop_mark()
        self.append(Set(*items))

    def _byte_array(self) -> None:
        # As bytes: the interpreter's own reserves as much memory as the file says.
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("it makes objects in an unusual way")


_OPCODES = {
    "REDUCE NEWOBJ": _Unpickler._reduce,
    "BUILD": _Unpickler._build,
    "DICT": _Unpickler._dict,
    "SETITEM": _Unpickler._set_item,
    "SETITEMS": _Unpickler._set_items,
    "APPEND": _Unpickler._append_item,
    "APPENDS": _Unpickler._append_items,
    "EMPTY_SET": _Unpickler._empty_set,
    "ADDITEMS": _Unpickler._add_items,
    "FROZENSET": _Unpickler._frozen_set,
    "BYTEARRAY8": _Unpickler._byte_array,
    "INST OBJ NEWOBJ_EX EXT1 EXT2 EXT4 PERSID BINPERSID": _Unpickler._refuse,
}
_Unpickler.dispatch.update(
    {getattr(pickle, name)[0]: method for names, method in _OPCODES.items() for name in names.split()}
)


def load_inert(content: bytes, names: Names) -> Any:
    """What a pickle holds: numbers, text, lists, tuples, dictionaries and records.

    Args:
        content: the pickle.
        names: what may be named in it.

    Raises:
        Exception: of any kind, where it is broken or was refused; `pickle.UnpicklingError` says what it named.
    """
    return _Unpickler(content, names).load()


def _keyed(items: list) -> dict:
    """A dictionary; only keys that hash at once, since nested ones can take forever."""
    keys, values = items[::2], items[1::2]
    if len(keys) != len(values) or not all(isinstance(key, (str, bytes, int, float, PickledObject)) for key in keys):
        raise pickle.UnpicklingError("a dictionary with keys that are not plain")
    return dict(zip(keys, values, strict=True))


def _require(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise pickle.UnpicklingError(f"it treats a {type(value).__name__} as a {kind.__name__}")
    return value
