"""Reads the few kinds of value that a batch of CIFAR-10 holds out of its pickle, without unpickling.

A pickle is a program. This reader knows the operations that build containers, texts and numbers, and keeps what the
file asks to be built as a `Call` that nothing runs. Each operation costs no more time and memory than the bytes that
it was read from or the values that it takes off the stack, so that a small file stays a small task.
"""

import pickletools
from dataclasses import dataclass
from typing import Any

OPERATION_LIMIT = 10**6  # of one pickle; a batch has 50,000
NAME_LIMIT = 100  # characters
ENCODE = "_codecs.encode"
LITERALS = frozenset(
    ["BININT", "BININT1", "BININT2", "LONG1", "LONG4", "INT", "LONG", "BINFLOAT", "FLOAT"]
    + ["STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"]
    + ["UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"]
)
IGNORED = frozenset({"PROTO", "FRAME"})


@dataclass(frozen=True)
class Name:
    """A function or class that the pickle names, as "module.name"."""

    text: str


@dataclass
class Call:
    """What the pickle would build by calling the function `name`, and the state that it would give it."""

    name: str
    arguments: tuple[Any, ...]
    state: Any = None


class _Machine:
    """The stack and the memo of a pickle. A method `op_NAME` does what the operation NAME does."""

    def __init__(self, names: frozenset[str], size: int) -> None:
        self._encodable = size  # characters that may still be encoded: no more than the file has
        self._names = names
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def _pop(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise ValueError("it takes more off its stack than is there")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def _pop_mark(self) -> list[Any]:
        return self._pop(len(self.stack) - self._marks.pop())

    def op_mark(self, _: Any) -> None:
        self._marks.append(len(self.stack))

    def op_none(self, _: Any) -> None:
        self.stack.append(None)

    def op_newtrue(self, _: Any) -> None:
        self.stack.append(True)

    def op_newfalse(self, _: Any) -> None:
        self.stack.append(False)

    def op_put(self, number: Any) -> None:
        self._memo[int(number)] = self.stack[-1]

    op_binput = op_long_binput = op_put

    def op_memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self.stack[-1]

    def op_get(self, number: Any) -> None:
        self.stack.append(self._memo[int(number)])

    op_binget = op_long_binget = op_get

    def op_empty_list(self, _: Any) -> None:
        self.stack.append([])

    def op_empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def op_empty_tuple(self, _: Any) -> None:
        self.stack.append(())

    def op_tuple1(self, _: Any) -> None:
        self.stack.append(tuple(self._pop(1)))

    def op_tuple2(self, _: Any) -> None:
        self.stack.append(tuple(self._pop(2)))

    def op_tuple3(self, _: Any) -> None:
        self.stack.append(tuple(self._pop(3)))

    def op_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._pop_mark()))

    def op_list(self, _: Any) -> None:
        self.stack.append(self._pop_mark())

    def op_dict(self, _: Any) -> None:
        items = self._pop_mark()
        self.stack.append({})
        self._update(items)

    def op_append(self, _: Any) -> None:
        items = self._pop(1)
        self.stack[-1].extend(items)

    def op_appends(self, _: Any) -> None:
        items = self._pop_mark()
        self.stack[-1].extend(items)

    def op_setitem(self, _: Any) -> None:
        self._update(self._pop(2))

    def op_setitems(self, _: Any) -> None:
        self._update(self._pop_mark())

    def _update(self, items: list[Any]) -> None:
        # To hash nested tuples may take a time that is exponential in their depth.
        if not all(isinstance(key, str | bytes) for key in items[::2]):
            raise ValueError("a key is not text")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def op_global(self, text: Any) -> None:
        self._push_name(text.replace(" ", "."))

    def op_stack_global(self, _: Any) -> None:
        module, name = self._pop(2)
        if not (isinstance(module, str) and isinstance(name, str) and len(module) + len(name) < NAME_LIMIT):
            raise ValueError("a name is not a short text")
        self._push_name(f"{module}.{name}")

    def _push_name(self, text: str) -> None:
        if text not in self._names:
            raise ValueError(f"it names '{text[:NAME_LIMIT]}', which no batch of CIFAR-10 does")
        self.stack.append(Name(text))

    def op_reduce(self, _: Any) -> None:
        name, arguments = self._pop(2)
        if not (isinstance(name, Name) and isinstance(arguments, tuple)):
            raise ValueError("it calls what is no function")
        self.stack.append(self._encoded(*arguments) if name.text == ENCODE else Call(name.text, arguments))

    def _encoded(self, text: Any, encoding: Any) -> bytes:
        """The bytes that Python 3 spells as a text in the old protocols."""
        if not isinstance(text, str) or encoding != "latin1" or len(text) > self._encodable:
            raise ValueError("it encodes what is no text of its own in latin1")
        self._encodable -= len(text)
        return text.encode("latin1")

    def op_build(self, _: Any) -> None:
        (state,) = self._pop(1)
        if not isinstance(self.stack[-1], Call):
            raise ValueError("it gives a state to what has none")
        self.stack[-1].state = state


def read_pickle(content: bytes, names: frozenset[str]) -> Any:
    """The value that the pickle `content` builds of containers, texts, numbers and calls of the allowed `names`.

    Raises ValueError (or what a damaged stack leads to: IndexError, KeyError, TypeError, AttributeError) for anything
    else.
    """
    machine = _Machine(names, len(content))
    for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if number >= OPERATION_LIMIT:
            raise ValueError(f"it has more than {OPERATION_LIMIT:,} operations")
        if opcode.name in LITERALS:
            machine.stack.append(argument)
        elif opcode.name == "STOP":
            return machine.stack.pop()
        elif opcode.name not in IGNORED:
            operation = getattr(machine, f"op_{opcode.name.lower()}", None)
            if operation is None:
                raise ValueError(f"it uses the operation {opcode.name}, which no batch of CIFAR-10 does")
            operation(argument)
    raise ValueError("it has no end")
