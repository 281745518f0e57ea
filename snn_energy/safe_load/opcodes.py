"""What a pickle would make, read from its opcodes: kinds and sizes, no object, and nothing is called.

`torch.load(weights_only=True)` builds what a file asks for while it reads it.  Here the same opcodes are
walked through beforehand with stand-ins, so that a file which asks for anything but tensors within their
storages, plain values and plain containers is refused before torch sees it.  Refused are, among others, an
item set on what is no dictionary and a tensor larger than its storage (CVE-2026-24747).
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

DEPTH = 100
"""Levels of nesting: optimizers' states have eight."""
VALUES = 2_000_000
"""Values in a file, what it mentions twice counted twice."""
OPCODES = 2_000_000
"""Some 35 to a tensor."""

ITEM_SIZES = {
    "HalfStorage": 2, "BFloat16Storage": 2, "FloatStorage": 4, "DoubleStorage": 8, "CharStorage": 1,
    "ByteStorage": 1, "BoolStorage": 1, "ShortStorage": 2, "IntStorage": 4, "LongStorage": 8,
    "ComplexFloatStorage": 8, "ComplexDoubleStorage": 16,
}  # fmt: skip
"""Bytes of an element, by the class of its storage."""
DTYPES = {
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2,
    "int32": 4, "uint32": 4, "int64": 8, "uint64": 8, "bool": 1, "complex64": 8, "complex128": 16,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
}  # fmt: skip

_STORAGES = {f"torch.{name}": size for name, size in ITEM_SIZES.items()} | {
    "torch.storage.UntypedStorage": 1,
    "torch.UntypedStorage": 1,
}
_TYPES = {f"torch.{name}": size for name, size in DTYPES.items()}
_TENSORS = {f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3")}
_PARAMETERS = {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"}
_PLAIN = {
    "_codecs.encode": "bytes",  # how protocol 2 writes bytes
    "builtins.bytearray": "bytes",
    "builtins.complex": "number",
    "builtins.set": "set",
    "collections.Counter": "dict",
    "collections.OrderedDict": "dict",
    "torch.Size": "tuple",
    "torch.device": "device",
}
NAMESPACE = "argparse.Namespace"
"""What the official trainers store their arguments in."""
MADE = {*_STORAGES, *_TYPES, *_TENSORS, *_PARAMETERS, *_PLAIN, NAMESPACE}
"""All that a file may name."""


class Unreadable(ValueError):
    """A pickle that is refused; the message says what it asks for, to stand behind "refused: "."""


class Damaged(ValueError):
    """What is no pickle, or not all of one."""


class Value:
    """A stand-in: its kind, what is known of it, and what it holds."""

    __slots__ = ("kind", "parts", "what")

    def __init__(self, kind: str, what: Any = None, parts: list[Value] | None = None) -> None:
        self.kind, self.what, self.parts = kind, what, parts


Storage = Callable[[str, int, int], None]
"""Called once with each storage's key, its bytes and those of an element: does the file have them?"""


def read(stream: BinaryIO, storage: Storage) -> Value:
    """Walk through one pickle; the stand-in for what it makes.  `stream` then stands behind it.

    Raises `Unreadable` for what may not be read, `Damaged` for what is no pickle.
    """
    machine = _Machine(storage)
    try:
        for number, (opcode, argument, _) in enumerate(_opcodes(stream)):
            if number > OPCODES:
                raise Unreadable(f"it has more than {OPCODES:,} opcodes")
            machine.step(opcode.name, argument)
    except (Unreadable, Damaged):
        raise
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{type(error).__name__} in its opcodes") from None
    if machine.marks or len(machine.stack) != 1:
        raise Damaged("its opcodes do not end in one value")
    (found,) = machine.stack
    weigh(found)
    return found


def _opcodes(stream: BinaryIO) -> Iterator[Any]:
    try:
        yield from pickletools.genops(stream)
    except (ValueError, OverflowError, MemoryError) as error:  # a length that the file does not have
        raise Damaged(str(error)) from None


def weigh(value: Value) -> None:
    """Raise `Unreadable` for more than `DEPTH` levels, more than `VALUES` values, or what holds itself."""
    sizes: dict[int, tuple[int, int]] = {}  # values and levels
    entered: set[int] = set()
    waiting = [value]
    while waiting:
        top = waiting[-1]
        key, parts = id(top), top.parts or ()
        if key in sizes:
            waiting.pop()
            continue
        missing = [part for part in parts if id(part) not in sizes]
        if missing:
            if key in entered:
                raise Unreadable("a container holds itself")
            entered.add(key)
            waiting.extend(missing)
            continue
        size = 1 + sum(sizes[id(part)][0] for part in parts)
        depth = 1 + max((sizes[id(part)][1] for part in parts), default=0)
        if size > VALUES:
            raise Unreadable(f"it stands for more than {VALUES:,} values")
        if depth > DEPTH:
            raise Unreadable(f"it is nested more than {DEPTH} levels deep")
        sizes[key] = size, depth
        waiting.pop()


class _Machine:
    """The stack of an unpickler, of stand-ins."""

    def __init__(self, storage: Storage) -> None:
        self.stack: list[Value] = []
        self.marks: list[int] = []
        self.memo: dict[int, Value] = {}
        self.storage = storage
        self.storages: dict[str, tuple[str, int]] = {}  # by key: its class and bytes

    def step(self, name: str, argument: Any) -> None:
        """One opcode."""
        if name in _SCALARS:
            kind = _SCALARS[name]
            self.stack.append(_CONSTANTS.get(kind) or Value(kind, argument))
        elif name in _EMPTY:
            self.stack.append(Value(_EMPTY[name], parts=[]))
        else:
            action = _ACTIONS.get(name)
            if action is None:
                raise Unreadable(_other(name, argument))
            action(self, argument)

    def pop(self) -> Value:
        """The topmost value above the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise Damaged("a value is missing on its stack")
        return self.stack.pop()

    def above_mark(self) -> list[Value]:
        """Everything above the last mark, which is gone then."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def top(self) -> Value:
        """The topmost value, left where it is."""
        value = self.pop()
        self.stack.append(value)
        return value

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def put(self, index: int) -> None:
        self.memo[index] = self.top()

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def make_global(self, argument: str) -> None:
        name = argument.replace(" ", ".", 1).replace("__builtin__.", "builtins.", 1)
        if name.startswith("torch._utils._rebuild_") and name not in MADE:
            raise Unreadable(f"it holds what is not a plain dense tensor ({name})")
        if name not in MADE:
            raise Unreadable(_importing(name))
        self.stack.append(Value("global", name))

    def tuple_of(self, count: int) -> None:
        items = [self.pop() for _ in range(count)][::-1]
        self.stack.append(Value("tuple", parts=items))

    def tuple_from_mark(self, _: Any) -> None:
        self.stack.append(Value("tuple", parts=self.above_mark()))

    def append(self, _: Any) -> None:
        self._extend([self.pop()])

    def appends(self, _: Any) -> None:
        self._extend(self.above_mark())

    def _extend(self, items: list[Value]) -> None:
        target = self.top()
        if target.kind != "list":
            raise Unreadable(f"it appends to a {target.kind}")
        target.parts.extend(items)  # type: ignore[union-attr]

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self._update([key, value])

    def set_items(self, _: Any) -> None:
        self._update(self.above_mark())

    def _update(self, items: list[Value]) -> None:
        target = self.top()
        if target.kind != "dict":
            raise Unreadable(f"it sets items of a {target.kind}, which is no dict")
        if len(items) % 2:
            raise Damaged("a key without a value")
        if any(key.kind in ("list", "dict", "set") for key in items[::2]):
            raise Unreadable("a key of a dict is a container")
        target.parts.extend(items)  # type: ignore[union-attr]

    def storage_of(self, _: Any) -> None:
        """The storage that a tuple ('storage', class, key, place, elements[, None]) describes."""
        described = self.pop()
        parts = described.parts or []
        kinds = [part.kind for part in parts[:5]]
        if described.kind != "tuple" or kinds != ["text", "global", "text", "text", "number"]:
            raise Unreadable("it names something outside the file that is no storage")
        word, cls, key, _place, count = (part.what for part in parts[:5])
        if (
            word != "storage"
            or cls not in _STORAGES
            or len(parts) > 6
            or any(p.kind != "none" for p in parts[5:])
        ):
            raise Unreadable("it names something outside the file that is no storage")
        if type(count) is not int or count < 0:
            raise Unreadable(f"a storage of {count} elements")
        nbytes = count * _STORAGES[cls]
        if key not in self.storages:
            self.storage(key, nbytes, _STORAGES[cls])
        elif self.storages[key] != (cls, nbytes):
            raise Unreadable(f"storage {key!r} is described in two ways")
        self.storages[key] = cls, nbytes
        self.stack.append(Value("storage", (nbytes, _STORAGES[cls])))

    def reduce(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        if function.kind != "global" or arguments.kind != "tuple":
            raise Unreadable(f"it calls a {function.kind}")
        name, given = function.what, arguments.parts or []
        if name in _TENSORS:
            _check_tensor(name, given)
            self.stack.append(Value("tensor", parts=given[4:]))
        elif name in _PARAMETERS:
            if not given or given[0].kind != "tensor":
                raise Unreadable("a parameter that is made of no tensor")
            self.stack.append(Value("tensor", parts=given))
        elif name in _PLAIN:
            if name in ("builtins.bytearray", "torch.Size") and any(one.kind == "number" for one in given):
                raise Unreadable(f"it calls {name} with a number, for that much memory")
            self.stack.append(Value(_PLAIN[name], parts=list(given)))
        elif name == NAMESPACE and not given:
            self.stack.append(Value("namespace", parts=[]))
        else:
            raise Unreadable(f"it calls {name}")

    def new_object(self, _: Any) -> None:
        arguments, cls = self.pop(), self.pop()
        if (cls.what, arguments.kind, arguments.parts) != (NAMESPACE, "tuple", []):
            raise Unreadable(f"it makes an object of {cls.what or cls.kind}")
        self.stack.append(Value("namespace", parts=[]))

    def build(self, _: Any) -> None:
        """Attributes: of a namespace, or of the metadata that a state dict carries."""
        state, target = self.pop(), self.top()
        if target.kind not in ("namespace", "dict") or state.kind != "dict":
            raise Unreadable(f"it sets the state of a {target.kind} from a {state.kind}")
        names = [key.what for key in (state.parts or [])[::2]]
        if not all(isinstance(name, str) for name in names) or (
            target.kind == "dict" and set(names) - {"_metadata"}
        ):
            raise Unreadable(f"it sets attributes of a {target.kind}")
        target.parts.append(state)  # type: ignore[union-attr]


def _check_tensor(name: str, given: list[Value]) -> None:
    """Raise `Unreadable` for a tensor that does not lie within its storage."""
    if len(given) < 4 or given[0].kind != "storage":
        raise Unreadable("a tensor without a storage")
    nbytes, item = given[0].what
    if name.endswith("_v3"):  # an untyped storage, and the type behind the hooks
        item = _TYPES.get(str(given[6].what) if len(given) > 6 else "", 0)
        if not item:
            raise Unreadable("a tensor of a type that is not read here")
    sizes, strides = (_whole_numbers(part) for part in given[2:4])
    offset = given[1].what
    if (
        sizes is None
        or strides is None
        or len(sizes) != len(strides)
        or type(offset) is not int
        or offset < 0
    ):
        raise Unreadable("a tensor whose shape is no list of whole numbers")
    if 0 in sizes:
        return
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if (last + 1) * item > nbytes:
        raise Unreadable(f"a tensor of shape {tuple(sizes)} that ends beyond its storage of {nbytes:,} bytes")


def _whole_numbers(value: Value) -> list[int] | None:
    found = [part.what for part in value.parts or []]
    right = value.kind == "tuple" and all(type(n) is int and n >= 0 for n in found)
    return found if right else None


def _importing(name: str) -> str:
    return f"it asks to import {name}; only tensors and plain types are read, nothing was run"


def _other(name: str, argument: Any) -> str:
    """Why an opcode is not read."""
    if name in (
        "FRAME",
        "MEMOIZE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "STACK_GLOBAL",
        "EMPTY_SET",
        "ADDITEMS",
    ):
        return "pickled with protocol 4 or newer; only torch.save's protocol 2 is read, nothing was run"
    if name in ("INST", "OBJ"):
        return _importing(str(argument).replace(" ", ".", 1) if argument else "an object")
    return f"the pickle opcode {name}, which torch.save does not write"


_SCALARS = {
    "NONE": "none", "NEWTRUE": "truth", "NEWFALSE": "truth", "BININT": "number", "BININT1": "number",
    "BININT2": "number", "LONG1": "number", "BINFLOAT": "number", "BINUNICODE": "text",
    "SHORT_BINSTRING": "text",
}  # fmt: skip
_CONSTANTS = {kind: Value(kind) for kind in ("none", "truth")}
_EMPTY = {"EMPTY_DICT": "dict", "EMPTY_LIST": "list", "EMPTY_TUPLE": "tuple"}


def _pass(machine: _Machine, argument: Any) -> None:
    """PROTO and STOP."""


def _of(count: int) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.tuple_of(count)


_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _pass, "STOP": _pass, "MARK": _Machine.mark, "GLOBAL": _Machine.make_global,
    "BINPUT": _Machine.put, "LONG_BINPUT": _Machine.put, "BINGET": _Machine.get, "LONG_BINGET": _Machine.get,
    "TUPLE": _Machine.tuple_from_mark, "TUPLE1": _of(1), "TUPLE2": _of(2), "TUPLE3": _of(3),
    "APPEND": _Machine.append, "APPENDS": _Machine.appends, "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items, "BINPERSID": _Machine.storage_of, "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.new_object, "BUILD": _Machine.build,
}  # fmt: skip
