"""``dataclass``, ``field`` and ``replace`` of the standard library, at a tenth of the cost.

Every start of this program makes some 130 classes of values. The standard library writes the
methods of each as text and has it compiled: 0.4 to 3 ms a class, which was more than half of the
time until an Emperor ordered its first vassal; what it imports for that (inspect, ast, dis) is
another 6 ms that nobody else here needs. The classes made here share one set of methods that read
the fields from a description, ``__record__``: 0.03 ms a class, and objects that are made, compared
and pickled no slower. ``benchmarks/emperor_cost.py`` shows what it is worth.

To a type checker the names are those of ``dataclasses``; for ``dataclasses.fields``, ``replace``
and ``asdict`` the classes are dataclasses. Only this is different: all have slots, and where a
method is written in the class (``__eq__``, ``__init__``), that one holds.
"""

from __future__ import annotations

from itertools import repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from dataclasses import dataclass, field, replace

__all__ = ["dataclass", "field", "replace"]

_MISSING: Any = object()


class _Field:
    """What is known of one field."""

    __slots__ = ("compare", "default", "default_factory", "kw_only", "repr")

    def __init__(
        self,
        *,
        default: Any = _MISSING,
        default_factory: Callable[[], Any] | None = None,
        compare: bool = True,
        repr: bool = True,  # noqa: A002  (named as in the standard library)
    ) -> None:
        if default.__class__.__hash__ is None:
            raise ValueError(f"the default {default!r} would be shared: use default_factory")
        self.default = default
        self.default_factory = default_factory
        self.compare = compare
        self.repr = repr
        self.kw_only = False


class _Record:
    """The description of a class, in the forms in which its methods need it."""

    __slots__ = ("compared", "defaults", "factories", "fields", "names", "placed", "values")

    def __init__(self, fields: dict[str, _Field]) -> None:
        self.fields = fields
        self.names = tuple(fields)
        self.placed = tuple(name for name, one in fields.items() if not one.kw_only)
        self.defaults = {
            name: one.default for name, one in fields.items() if one.default is not _MISSING
        }
        self.factories = tuple(
            (name, one.default_factory)
            for name, one in fields.items()
            if one.default_factory is not None
        )
        self.values = _getter(self.names)
        self.compared = _getter([name for name, one in fields.items() if one.compare])


def _getter(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function from a record to these fields of it."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda record: tuple([getattr(record, name) for name in names])


class _StandardFields:
    """``__dataclass_fields__``: made by the standard library when somebody asks for it."""

    def __get__(self, _record: object, owner: type[Any]) -> dict[str, Any]:
        import dataclasses  # noqa: PLC0415  (what a start is to be spared)

        rows = []
        for name, one in owner.__record__.fields.items():
            given: dict[str, Any] = {
                "compare": one.compare,
                "kw_only": one.kw_only,
                "repr": one.repr,
            }
            if one.default is not _MISSING:
                given["default"] = one.default
            elif one.default_factory is not None:
                given["default_factory"] = one.default_factory
            rows.append((name, Any, dataclasses.field(**given)))
        made = dataclasses.make_dataclass(owner.__name__, rows)
        kept = {one.name: one for one in dataclasses.fields(made)}
        owner.__dataclass_fields__ = kept
        return kept


# -- the methods, each one function for all classes --------------------------------------------

_set: Any = object.__setattr__
"""Sets a field even where assignments are refused. It returns None: ``any(map(...))`` calls it
for all fields, without a turn of the interpreter for each."""


def _init(self: Any, /, *args: Any, **given: Any) -> None:
    record: _Record = self.__record__
    if not given and len(args) == len(record.placed) == len(record.names):
        any(map(_set, repeat(self), record.placed, args))
        return
    values = record.defaults | given
    if args:
        if len(args) > len(record.placed) or (given and given.keys() & record.placed[: len(args)]):
            raise _misfit(self, args, given)
        values.update(zip(record.placed, args))  # noqa: B905  (the others have their defaults)
    for name, make in record.factories:
        if name not in values:
            values[name] = make()
    if len(values) != len(record.names):
        raise _misfit(self, args, given)
    try:
        any(map(_set, repeat(self), values, values.values()))
    except AttributeError:  # as many names as there should be, but this is none of them
        raise _misfit(self, args, given) from None


def _misfit(self: Any, args: tuple[Any, ...], given: dict[str, Any]) -> TypeError:
    """Return the error for a call that does not fit the fields."""
    record: _Record = self.__record__
    name = f"{type(self).__qualname__}()"
    placed = record.placed[: len(args)]
    if len(args) > len(placed):
        return TypeError(
            f"{name} takes {len(placed)} values by position and was given {len(args)}"
        )
    if twice := [one for one in placed if one in given]:
        return TypeError(f"{name} was given {', '.join(twice)} twice")
    if unknown := [one for one in given if one not in record.fields]:
        return TypeError(f"{name} has no field {', '.join(unknown)}")
    known = {*placed, *given, *record.defaults, *dict(record.factories)}
    return TypeError(f"{name} lacks {', '.join(one for one in record.names if one not in known)}")


def _repr(self: Any) -> str:
    record: _Record = self.__record__
    shown = [name for name in record.names if record.fields[name].repr]
    return f"{type(self).__qualname__}({', '.join(f'{x}={getattr(self, x)!r}' for x in shown)})"


def _eq(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    compared = self.__record__.compared
    return compared(self) == compared(other)


def _hash(self: Any) -> int:
    return hash(self.__record__.compared(self))


def _getstate(self: Any) -> tuple[Any, ...]:
    values: tuple[Any, ...] = self.__record__.values(self)
    return values


def _setstate(self: Any, values: tuple[Any, ...]) -> None:
    any(map(_set, repeat(self), self.__record__.names, values))


def _setattr(self: Any, name: str, _value: object) -> None:
    raise AttributeError(f"cannot assign to {name} of {type(self).__qualname__}, which is frozen")


def _delattr(self: Any, name: str) -> None:
    raise AttributeError(f"cannot delete {name} of {type(self).__qualname__}, which is frozen")


_FOR_ALL: dict[str, Any] = {
    "__init__": _init,
    "__repr__": _repr,
    "__getstate__": _getstate,
    "__setstate__": _setstate,
    "__dataclass_fields__": _StandardFields(),
}
_FOR_EQUAL: dict[str, Any] = {"__eq__": _eq, "__hash__": None}
_FOR_FROZEN: dict[str, Any] = {"__setattr__": _setattr, "__delattr__": _delattr}


# -- making a class ----------------------------------------------------------------------------


def _own_fields(namespace: dict[str, Any], *, kw_only: bool) -> dict[str, _Field]:
    """Take the fields out of a class's namespace; what they are set to are their defaults."""
    own = {}
    for name, kind in namespace.get("__annotations__", {}).items():
        if str(kind).startswith(("ClassVar", "typing.ClassVar")):
            continue
        given = namespace.pop(name, _MISSING)
        own[name] = given if isinstance(given, _Field) else _Field(default=given)
        own[name].kw_only = kw_only
    return own


def _make(cls: Any, *, frozen: bool, kw_only: bool, eq: bool) -> Any:
    """Return ``cls`` again, with slots for its fields and the methods that read them."""
    namespace = {
        key: value for key, value in vars(cls).items() if key not in {"__dict__", "__weakref__"}
    }
    own = _own_fields(namespace, kw_only=kw_only)
    fields: dict[str, _Field] = {}
    for base in reversed(cls.__mro__[1:]):
        if "__record__" in vars(base):
            fields |= base.__record__.fields
    namespace["__qualname__"] = cls.__qualname__
    namespace["__slots__"] = tuple(name for name in own if name not in fields)
    namespace["__record__"] = _Record(fields | own)
    methods = _FOR_ALL | (_FOR_EQUAL if eq else {}) | (_FOR_FROZEN if frozen else {})
    if eq and frozen:
        methods["__hash__"] = _hash
    return type(cls)(cls.__name__, cls.__bases__, methods | namespace)


def _dataclass(
    *,
    frozen: bool = False,
    slots: bool,  # noqa: ARG001  (named for the type checker and the reader; True always)
    kw_only: bool = False,
    eq: bool = True,
) -> Callable[[Any], Any]:
    """As ``dataclasses.dataclass``; see the module."""
    return lambda cls: _make(cls, frozen=frozen, kw_only=kw_only, eq=eq)


def _replace(record: Any, /, **changes: Any) -> Any:
    """Return a record like this one but for ``changes``."""
    description: _Record = record.__record__
    values = dict(zip(description.names, description.values(record), strict=True)) | changes
    if len(values) != len(description.names):
        raise _misfit(record, (), changes)
    made = object.__new__(type(record))
    any(map(_set, repeat(made), values, values.values()))
    return made


if not TYPE_CHECKING:
    dataclass, field, replace = _dataclass, _Field, _replace
