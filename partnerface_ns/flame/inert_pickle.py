"""Safe unpickling: an allow-list unpickler that never runs code from the file.

A pickle names functions and classes and calls them. This unpickler maps a few allowed names to inert placeholder
objects, which only store their arguments and state, and refuses every other name. It also refuses unusual opcodes,
changes to named objects, dictionary keys that are slow to hash, and declared sizes larger than the file.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any, ClassVar


class PickledObject:
    """Placeholder for a pickled object: its constructor arguments and its state."""

    __slots__ = ("arguments", "state")

    def __init__(self, *arguments: Any) -> None:
        self.arguments, self.state = arguments, None

    def build(self, state: Any) -> None:
        self.state = state


class EmptyArray(PickledObject):
    """A numpy array as `_reconstruct` creates it: empty, with its content in the state."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if len(arguments) != 3 or not isinstance(arguments[0], _Name) or arguments[1] != (0,):
            raise pickle.UnpicklingError("an array with unexpected constructor arguments")


class BufferArray(PickledObject):
    """A numpy array of pickle protocol 5: bytes, dtype, shape, order."""


class Dtype(PickledObject):
    """A numpy dtype without fields or subarrays."""

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("not a dtype of numpy")
        if state[2:5] != (None, None, None):
            raise pickle.UnpicklingError("a dtype with fields")
        self.state = state


class NumberDtype(Dtype):
    """A numeric numpy dtype."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if not arguments or arguments[0] not in NUMBER_DTYPES:
            raise pickle.UnpicklingError("not a numeric dtype")


class Scalar(PickledObject):
    """A numpy scalar."""


class EncodedBytes(PickledObject):
    """Bytes that pickle protocols below 3 store as text."""


class Chumpy(PickledObject):
    """A chumpy array with its numbers in the state."""


class SparseColumns(PickledObject):
    """A sparse matrix of scipy in CSC format."""


class Set(PickledObject):
    """A set; nothing reads its members."""


class Type(PickledObject):
    """A class that appears only as an argument."""


Names = Mapping[tuple[str, str], type[PickledObject]]
"""Allowed names, as (module, name), and their placeholder classes."""
NUMBER_DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
NUMPY_NAMES: Names = {
    ("numpy", "ndarray"): Type,
    ("numpy", "dtype"): NumberDtype,
    ("_codecs", "encode"): EncodedBytes,
    **{
        (f"numpy.{core}.{module}", name): placeholder
        for core in ("core", "_core")
        for module, name, placeholder in (
            ("multiarray", "_reconstruct", EmptyArray),
            ("multiarray", "scalar", Scalar),
            ("numeric", "_frombuffer", BufferArray),
        )
    },
}
"""Names that numeric arrays need."""
FLAME_NAMES: Names = {
    **NUMPY_NAMES,
    ("numpy", "dtype"): Dtype,
    ("chumpy.ch", "Ch"): Chumpy,
    ("scipy.sparse.csc", "csc_matrix"): SparseColumns,
    ("scipy.sparse._csc", "csc_matrix"): SparseColumns,
    **{(module, "set"): Set for module in ("__builtin__", "builtins")},
    **{(module, "object"): Type for module in ("__builtin__", "builtins")},
}
"""Names that FLAME files need, including sets and arrays that are not used."""
_RECONSTRUCTORS = (("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor"))
"""Functions of protocols 0 and 1 that create an object of the class in their first argument."""


class _Name:
    """An allowed name in the pickle. It is immutable and is itself neither class nor function."""

    __slots__ = ("_placeholder",)
    _placeholder: type[PickledObject] | None

    def __init__(self, placeholder: type[PickledObject] | None) -> None:
        object.__setattr__(self, "_placeholder", placeholder)

    def __setattr__(self, name: str, value: object) -> None:
        raise pickle.UnpicklingError("a name cannot be changed")

    def call(self, arguments: object) -> PickledObject:
        """The placeholder for the result of calling the named class or function."""
        if not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("arguments that are not a tuple")
        if self._placeholder is not None:
            return self._placeholder(*arguments)
        if not arguments or not isinstance(arguments[0], _Name) or arguments[0]._placeholder is None:
            raise pickle.UnpicklingError("an object without a class")
        return arguments[0].call(())


class _Unpickler(pickle._Unpickler):
    """Python's own pure-Python unpickler with all opcodes replaced that create or change objects.

    The C version is not used because it allocates as much memory as the file declares.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)
    # Attributes of the base class that its type stub lacks.
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def __init__(self, content: bytes, names: Names) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
        self._names = names

    def find_class(self, module: str, name: str) -> _Name:
        if (module, name) in _RECONSTRUCTORS:
            return _Name(None)
        if (module, name) not in self._names:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _Name(self._names[module, name])

    def _reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.append(_require(function, _Name).call(arguments))

    def _build(self) -> None:
        state = self.stack.pop()
        _require(self.stack[-1], PickledObject).build(state)

    def _dict(self) -> None:
        items = self.pop_mark()
        self.append(_make_dict(items))

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _require(self.stack[-1], dict).update(_make_dict([key, value]))

    def _set_items(self) -> None:
        items = self.pop_mark()
        _require(self.stack[-1], dict).update(_make_dict(items))

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
        # Read as bytes, because Python's own opcode allocates as much memory as the file declares.
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("it creates objects in an unusual way")


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
    """The content of a pickle: numbers, text, lists, tuples, dictionaries and `PickledObject`.

    Args:
        content: bytes of the pickle.
        names: names that the pickle may use.

    Raises:
        Exception: of any kind if the pickle is broken or refused. `pickle.UnpicklingError` gives the refused name.
    """
    return _Unpickler(content, names).load()


def _make_dict(items: list) -> dict:
    """A dictionary. Keys must be plain, because nested keys can take forever to hash."""
    keys, values = items[::2], items[1::2]
    if len(keys) != len(values) or not all(isinstance(key, (str, bytes, int, float, PickledObject)) for key in keys):
        raise pickle.UnpicklingError("a dictionary with keys that are not plain")
    return dict(zip(keys, values, strict=True))


def _require(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise pickle.UnpicklingError(f"it treats a {type(value).__name__} as a {kind.__name__}")
    return value
