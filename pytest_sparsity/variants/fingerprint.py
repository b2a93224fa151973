"""A fingerprint of what a function does, so that a result can be kept until it would change.

`describe` turns an object into plain data that is the same in every process and different when the
object would behave differently: a function is its bytecode, its constants, its defaults, what it
closes over and the globals it reaches; a module that is installed is its version, one of the user's
own is its source and that of the modules it imports. What cannot be told raises `Untellable`.

Not seen: environment variables, files that are read, the clock, and what `getattr(x, name)`,
`importlib` and `eval` find.
"""

from __future__ import annotations

import dataclasses
import dis
import enum
import functools
import hashlib
import json
import logging
import pickle
import sys
import types
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from pytest_sparsity.variants import modules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Description = Any
"""What json.dumps takes."""

PYTHONS = ((3, 10), (3, 11), (3, 12), (3, 13))
"""Whose bytecode is read rightly: an operation of another name would mean files that are kept
though the code has changed."""

PLAIN = (type(None), bool, int, float, complex, str, bytes, range, slice, type(...))
BYTECODE = ("co_flags", "co_names", "co_varnames", "co_freevars", "co_cellvars")
VOLATILE = {
    *("__annotations__", "__annotate_func__", "__dict__", "__doc__", "__firstlineno__"),
    *("__module__", "__qualname__", "__static_attributes__", "__weakref__", "_abc_impl"),
    *("__annotations_cache__", "__dataclass_fields__", "__dataclass_params__", "__match_args__"),
    *("__orig_bases__", "__parameters__", "__hash__"),
}
"""Attributes of a class that say nothing about what it does, or repeat what others say."""

CACHED = type(functools.cache(len))
TRANSPARENT = ("abc", "tensorflow_model_optimization", "types")
"""Packages whose objects keep all their state in `__dict__`: TFMOT's schedules and policies."""


class Untellable(Exception):  # noqa: N818  (not an error: the caller then looks at the result)
    """What an object does cannot be told by looking at it; the message says which object."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.path: list[str] = []

    def __str__(self) -> str:
        path = " in ".join(self.path)
        return f"{path} is {self.args[0]}" if path else str(self.args[0])


@dataclasses.dataclass(frozen=True)
class Named:
    """An object and what an `Untellable` calls it."""

    name: str
    value: object


def digest(*objects: object) -> str:
    """Return the SHA-256, in hexadecimal, of the objects' descriptions.

    Raises:
        Untellable: see there.
    """
    if sys.version_info[:2] not in PYTHONS:
        raise Untellable(f"code of Python {sys.version_info[0]}.{sys.version_info[1]}")
    describer = _Describer()
    text = json.dumps([describer.describe(each) for each in objects])
    return hashlib.sha256(text.encode()).hexdigest()


class _Describer:
    """Describes objects; one that was met before is described by its number."""

    def __init__(self) -> None:
        self._met: dict[int, tuple[int, object]] = {}
        self._sources: set[str] = set()

    def describe(self, it: object) -> Description:
        """Return plain data that is the same for what behaves the same; may raise Untellable."""
        if isinstance(it, PLAIN) and type(it) in PLAIN:
            return [type(it).__name__, repr(it)]
        if not isinstance(it, (tuple, frozenset)):  # constants, which Python may share or not
            if id(it) in self._met:
                return ["met", self._met[id(it)][0]]
            self._met[id(it)] = (len(self._met), it)
        for kinds, rule in RULES:
            if isinstance(it, kinds):
                return [type(it).__name__, rule(self, it)]
        return self._instance(it)

    def named(self, name: str, it: object) -> Description:
        """Describe, and let an Untellable say by which name it was reached."""
        try:
            return self.describe(it)
        except Untellable as untellable:
            untellable.path.append(name)
            raise

    def named_value(self, it: Named) -> Description:
        return self.named(it.name, it.value)

    def logger(self, it: logging.Logger | logging.LoggerAdapter[Any]) -> Description:
        return getattr(it, "name", "")

    def each(self, items: Iterable[object]) -> list[Description]:
        """Describe one by one."""
        return [self.describe(item) for item in items]

    def pairs(self, items: Any) -> Description:
        self._check_container(items)
        return [[self.describe(key), self.describe(value)] for key, value in items.items()]

    def unordered(self, items: Any) -> Description:
        self._check_container(items)
        return sorted(json.dumps(_Describer().describe(item)) for item in items)

    def sequence(self, items: Any) -> Description:
        if not hasattr(items, "_fields"):
            self._check_container(items)
        return [self.describe(type(items)), self.each(items)]

    def _check_container(self, items: object) -> None:
        if self._installed(type(items).__module__) != modules.PYTHON or hasattr(
            items, "default_factory"
        ):
            raise _untellable(items)

    def enum_member(self, it: enum.Enum) -> Description:
        return [self.class_(type(it)), it.name, self.describe(it.value)]

    def partial(self, it: functools.partial[object]) -> Description:
        return self.each([it.func, it.args, it.keywords])

    def bound_method(self, it: types.MethodType) -> Description:
        return self.each([it.__self__, it.__func__])

    def static_or_class_method(
        self, it: staticmethod[Any, Any] | classmethod[Any, Any, Any]
    ) -> Description:
        return self.describe(it.__func__)

    def property_(self, it: property) -> Description:
        return self.each([it.fget, it.fset, it.fdel])

    def builtin(self, it: types.BuiltinFunctionType) -> Description:
        owner = it.__self__
        if owner is None or isinstance(owner, (types.ModuleType, type)):
            module = it.__module__ or getattr(owner, "__name__", "builtins")
            return [self._installed(module), module, it.__qualname__]
        return [it.__name__, self.describe(owner)]

    def slot(self, it: types.MethodDescriptorType) -> Description:
        return [self.class_(it.__objclass__), it.__name__]

    def function(self, it: types.FunctionType) -> Description:
        cells = {
            name: _contents(cell)
            for name, cell in zip(it.__code__.co_freevars, it.__closure__ or (), strict=True)
        }
        installed = self._installed(it.__module__)
        if installed:
            return [installed, it.__qualname__, self._names(cells)]
        bound = [self._names(cells), *self.each([it.__defaults__, it.__kwdefaults__])]
        return [self._code(it.__code__, it.__globals__), bound, self.describe(vars(it))]

    def _names(self, held: dict[str, object]) -> list[Description]:
        return [self.named(name, value) for name, value in held.items()]

    def class_(self, it: type) -> Description:
        installed = self._installed(it.__module__)
        if installed:
            return [installed, it.__qualname__]
        own = {
            name: value
            for name, value in vars(it).items()
            if name not in VOLATILE and not _is_generated(value)
        }
        fields = [
            (field.name, field.default_factory)
            for field in vars(it).get("__dataclass_fields__", {}).values()
            if field.default_factory is not dataclasses.MISSING
        ]
        return [it.__qualname__, self.each(it.__bases__), self.describe(own), self.each(fields)]

    def _instance(self, it: Any) -> Description:
        if _is_importable(it) and self._installed(it.__module__):
            return [self._installed(it.__module__), it.__module__, it.__qualname__]
        if isinstance(it, CACHED):
            return self.describe(it.__wrapped__)
        if type(it).__module__.partition(".")[0] == "numpy":
            return _numpy(it)
        state = getattr(it, "__dict__", None)
        if state is not None and self._is_transparent(type(it)):
            return [self.describe(type(it)), self.describe(dict(state))]
        return self._pickled(it)

    def _pickled(self, it: object) -> Description:
        """Describe an object of an installed package by what pickle would restore it from."""
        installed = self._installed(type(it).__module__)
        if not installed or installed == modules.PYTHON:
            raise _untellable(it)
        pickled = _Pickled(self._installed)
        try:
            pickled.dump(it)
        except Exception:
            raise _untellable(it) from None
        return [
            installed,
            type(it).__qualname__,
            pickled.digest.hexdigest(),
            self.each(pickled.code),
        ]

    def _is_transparent(self, kind: type) -> bool:
        """Whether an object's `__dict__` is all of its state: user classes, and TFMOT's."""
        for base in kind.__mro__[:-1]:
            package = base.__module__.partition(".")[0]
            if vars(base).get("__slots__"):
                return False
            if self._installed(base.__module__) and package not in TRANSPARENT:
                return False
        return True

    def _code(self, code: types.CodeType, scope: dict[str, Any]) -> Description:
        inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
        constants = [c for c in code.co_consts if not isinstance(c, types.CodeType)]
        return [
            code.co_code.hex(),
            [getattr(code, name) for name in BYTECODE],
            self.each(constants),
            list(self._reached(code, scope)),
            [self._code(each, scope) for each in inner],
        ]

    def _reached(self, code: types.CodeType, scope: dict[str, Any]) -> Iterator[Description]:
        """Describe the globals and modules that the bytecode reaches."""
        instructions = [i for i in dis.get_instructions(code) if i.opname != "EXTENDED_ARG"]
        for place, instruction in enumerate(instructions):
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                if instruction.argval in scope:
                    value = scope[instruction.argval]
                    yield self._attribute(instruction.argval, value, instructions[place + 1 :])
            elif instruction.opname == "IMPORT_NAME":
                level, names = (step.argval for step in instructions[place - 2 : place])
                name = instruction.argval
                yield self._imported(modules.absolute(name, level, scope.get("__package__")), names)

    def _attribute(self, name: str, value: Any, following: list[dis.Instruction]) -> Description:
        """Describe what is taken from a module of the user's, rather than the whole module."""
        path = []
        for instruction in following:
            taken = instruction.opname in ("LOAD_ATTR", "LOAD_METHOD")
            if not isinstance(value, types.ModuleType) or self._installed(value.__name__):
                break
            if not taken or not hasattr(value, instruction.argval):
                break
            path.append(instruction.argval)
            value = getattr(value, instruction.argval)
        return [path, self.named(".".join([name, *path]), value)]

    def module(self, it: types.ModuleType) -> Description:
        return self._imported(it.__name__, ())

    def _imported(self, name: str, members: Iterable[str] | None) -> Description:
        """Describe a module by name, without importing it, and submodules taken from it."""
        installed = self._installed(name)
        if installed:
            return installed
        inner = [f"{name}.{member}" for member in members or ()]
        taken = [self._imported(each, ()) for each in inner if modules.find(each) is not None]
        package = name.rpartition(".")[0]
        around = self._imported(package, ()) if package else None
        return [around, self._source(name), taken]

    def _source(self, name: str) -> Description:
        """Describe a module of the user's by its source and what that imports."""
        if name in self._sources:
            return ["met", name]
        self._sources.add(name)
        spec = modules.find(name)
        if spec is None:
            return ["missing", name]
        if spec.origin is None or not spec.has_location:
            return ["namespace", name]
        content = Path(spec.origin).read_bytes()
        imports: list[Description] = []
        if spec.origin.endswith(".py"):
            package = name if spec.submodule_search_locations else name.rpartition(".")[0]
            imports = [self._imported(*each) for each in modules.imports(content, package)]
        return [name, hashlib.sha256(content).hexdigest(), imports]

    def _installed(self, module: str | None) -> str | None:
        return modules.installed(module.partition(".")[0]) if module else modules.PYTHON


class _Pickled(pickle.Pickler):
    """Digests an object, and collects the user's code in it, which pickle only names."""

    def __init__(self, installed: Callable[[str], str | None]) -> None:
        self.digest = hashlib.sha256()
        self.code: list[object] = []
        self._installed = installed
        super().__init__(self, protocol=4)

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return len(data)

    def reducer_override(self, it: Any) -> Any:
        if isinstance(it, (types.FunctionType, type)) and not self._installed(it.__module__):
            self.code.append(it)
        return NotImplemented


RULES: tuple[tuple[Any, Any], ...] = (
    (Named, _Describer.named_value),
    ((logging.Logger, logging.LoggerAdapter), _Describer.logger),
    (enum.Enum, _Describer.enum_member),
    (PurePath, lambda _self, it: str(it)),
    ((tuple, list), _Describer.sequence),
    ((set, frozenset), _Describer.unordered),
    ((dict, types.MappingProxyType), _Describer.pairs),
    (functools.partial, _Describer.partial),
    (types.MethodType, _Describer.bound_method),
    ((staticmethod, classmethod), _Describer.static_or_class_method),
    (property, _Describer.property_),
    (types.BuiltinFunctionType, _Describer.builtin),
    ((types.MethodDescriptorType, types.WrapperDescriptorType), _Describer.slot),
    (types.FunctionType, _Describer.function),
    (types.ModuleType, _Describer.module),
    (type, _Describer.class_),
)


def _untellable(it: object) -> Untellable:
    return Untellable(f"a {type(it).__module__}.{type(it).__qualname__} object")


def _contents(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _is_generated(value: object) -> bool:
    """Whether dataclasses or namedtuple made it, from the fields that are described anyway."""
    function = getattr(value, "__func__", value)
    if isinstance(function, types.FunctionType):
        return function.__code__.co_filename.startswith("<")
    return type(value).__name__ == "_tuplegetter"


def _is_importable(it: Any) -> bool:
    """Whether its own `__module__` and `__qualname__` lead to it."""
    module = sys.modules.get(getattr(it, "__module__", None) or "")
    return getattr(module, getattr(it, "__qualname__", None) or "", None) is it


def _numpy(it: Any) -> Description:
    import numpy as np
    from numpy.lib.npyio import NpzFile

    if isinstance(it, np.dtype):
        return ["numpy", it.str]
    if isinstance(it, (np.ndarray, np.generic)) and not it.dtype.hasobject:
        return ["numpy", it.dtype.str, it.shape, hashlib.sha256(it.tobytes()).hexdigest()]
    if isinstance(it, np.ufunc):
        return ["numpy", it.__name__]
    if isinstance(it, NpzFile):
        return ["numpy", [[name, _numpy(it[name])] for name in it.files]]
    raise _untellable(it)
