"""How tyro shows and reads options whose default is None: as `INT`, where tyro itself shows `{None}|INT`."""

from __future__ import annotations

from dataclasses import replace
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo


def optional_values() -> ConstructorRegistry:
    """The rule, to be used as a context manager around `tyro.cli`."""
    registry = ConstructorRegistry()
    registry.primitive_rule(_read_without_none)
    return registry


def _read_without_none(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """The rule of X for the type `X | None`; None leaves other types to tyro."""
    types = get_args(info.type)
    if get_origin(info.type) not in (Union, UnionType) or NoneType not in types:
        return None
    value: Any = Union[tuple(kind for kind in types if kind is not NoneType)]  # noqa: UP007 (made at run time)
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(value, info.markers))
    if not isinstance(spec, PrimitiveConstructorSpec):
        return None
    return replace(
        spec,
        is_instance=lambda given: given is None or spec.is_instance(given),
        str_from_instance=lambda given: ["None"] if given is None else spec.str_from_instance(given),
    )
