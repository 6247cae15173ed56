"""What an option is, and what is made of the options of a command besides its command line.

A command's configuration is a frozen dataclass. Each of its fields is made by `option` or `argument` and carries all
that is known of it: type, default, help, the values it may take, and whether the result depends on it.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from fairdd_cli.errors import UsageError, unknown
from fairdd_cli.registry import LARGEST, WHOLE, parse_number

METADATA = "option"
TRUE, FALSE = ("true", "yes", "on", "y", "t", "1"), ("false", "no", "off", "n", "f", "0")
Text = str | Callable[[], str]  # a callable is asked when the text is shown, so that nothing is read before
REPEATABLE = (tuple, Mapping)  # types of options that may be given several times
Names = Sequence[str] | Callable[[], Sequence[str]]


@dataclass(frozen=True)
class Option:
    """One option (or argument, where it `is_argument`) of a command.

    `aliases` stand for a choice and are taken, too. `flags` are its spellings. An option that `excludes` another one
    goes before it where that stands in a recipe only. `affects` says what depends on it: the `result`, and the file's
    record and the checkpoint's fingerprint hold it; only the last `digits` of the numbers, as the fingerprint has;
    the result through the `seed`, which files and checkpoints hold beside these; or `nothing`.
    """

    help: str
    flags: tuple[str, ...] = ()
    metavar: str = ""
    kind: str = ""  # what one of the choices is, for messages
    default_text: Text = ""
    choices: Names = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    minimum: float | None = None
    maximum: float | None = None
    parse: Callable[[str], Any] | None = None
    affects: Literal["result", "digits", "seed", "nothing"] = "nothing"
    excludes: str = ""
    renamed: bool = False  # whether `flags` have another name than its field
    is_argument: bool = False
    # From the field itself:
    name: str = ""
    type: Any = str
    default: Any = None

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is MISSING

    @property
    def base_type(self) -> Any:
        """Its type without None: str, int, float, bool, tuple or Mapping."""
        if get_origin(self.type) in REPEATABLE:
            return get_origin(self.type)
        return next(each for each in (*get_args(self.type), self.type) if each is not NoneType)

    @property
    def entry_type(self) -> Any:
        """The type of one value of a repeatable option."""
        return get_args(self.type)[0] if self.base_type is tuple else str

    @property
    def is_number(self) -> bool:
        """Whether it is a number without rules of its own."""
        return self.base_type in (int, float) and not self.names and not self.parse

    @property
    def repeatable(self) -> bool:
        """Whether it may be given several times."""
        return self.base_type in REPEATABLE

    @property
    def spelling(self) -> str:
        """How messages and recipes name it: the long flag without its dashes, or an argument's name."""
        return self.name if self.is_argument else self.flag.lstrip("-")

    @property
    def flag(self) -> str:
        """How it is typed: `--seed`, or `DATA` for an argument."""
        return self.metavar if self.is_argument else self.flags[0]

    @property
    def names(self) -> tuple[str, ...]:
        """The values to choose from; none where it is not a closed set."""
        return tuple(self.choices() if callable(self.choices) else self.choices)

    @property
    def shown_default(self) -> str:
        """The default in words; nothing where it is shown as it is."""
        return self.default_text() if callable(self.default_text) else self.default_text

    @property
    def description(self) -> str:
        """The help with the values that the command line shows nowhere else, and the default."""
        names = f" One of {', '.join(self.names)}." if self.is_argument and self.names else ""
        limits = f" At least {self.minimum:g}." if self.minimum else ""
        if self.maximum is not None:
            limits = f" From {self.minimum or 0:g} to {self.maximum:g}."
        default = f" (default: {self.shown_default})" if self.shown_default else ""
        return f"{self.help}{names}{limits}{default}"

    def read(self, text: str) -> Any:
        """The value that `text` stands for, of the type of one entry; raises UsageError for a wrong one."""
        if self.names:
            name = self.aliases.get(text, text)
            if name not in self.names:
                raise unknown(self.kind or self.spelling.replace("-", " "), text, [*self.names, *self.aliases])
            return name
        if self.parse:
            return self.parse(text)
        if self.base_type is bool:
            if text.lower() not in TRUE + FALSE:
                raise UsageError(f"{self.flag}: expected true or false, found '{text}'")
            return text.lower() in TRUE
        if self.is_number:
            try:
                number = parse_number(text.strip(), self.base_type)
            except ValueError as error:
                kind = "a whole number" if self.base_type is int else "a number"
                if self.base_type is int and WHOLE.fullmatch(text.strip()):
                    kind += f" of at most {LARGEST.bit_length()} bits"
                raise UsageError(f"{self.flag}: expected {kind}, found '{text}'") from error
            if limit := self.exceeded(number):
                raise UsageError(f"{self.flag}: expected {limit}, found '{text}'")
            return number
        return text

    def exceeded(self, number: float) -> str:
        """Which limit `number` is beyond, in words; nothing where it is within them."""
        if self.minimum is not None and not number >= self.minimum:
            return f"at least {self.minimum:g}"
        if self.maximum is not None and not number <= self.maximum:
            return f"at most {self.maximum:g}"
        return ""


def option(
    help: str,
    *others: str,
    default: Any = MISSING,
    flag: str = "",
    **known: Any,
) -> Any:
    """A dataclass field that is an option; see `Option`. Its flag is made from its name, unless `flag` is given.

    The `others` are further spellings.
    `default=dict` stands for an empty mapping.
    """
    flags = (flag, *others) if flag else others
    metadata = {METADATA: Option(help, flags=flags, renamed=bool(flag), **known)}
    return (
        field(default_factory=dict, metadata=metadata) if default is dict else field(default=default, metadata=metadata)
    )


def argument(help: str, metavar: str, *, default: Any = MISSING, **known: Any) -> Any:
    """A dataclass field that is a positional argument."""
    entry = Option(help, metavar=metavar, is_argument=True, **known)
    return field(default=default, metadata={METADATA: entry})


def options(config: type) -> dict[str, Option]:
    """The options of the configuration class `config` by the name of their field, in its order."""
    return dict(_options(config))


def _options(config: type) -> Iterator[tuple[str, Option]]:
    for entry in fields(config):
        known: Option | None = entry.metadata.get(METADATA)
        if known is None:
            continue
        flags = known.flags
        if not known.is_argument and not known.renamed:
            flags = (f"--{entry.name.replace('_', '-')}", *flags)
        default = entry.default if entry.default_factory is MISSING else entry.default_factory()
        yield entry.name, replace(known, flags=flags, name=entry.name, type=entry.type, default=default)


def assignments(items: Sequence[str]) -> dict[str, str]:
    """`key=value` words as a mapping, the last of a key; raises UsageError for one that is not of that form."""
    pairs = {}
    for item in items:
        matched = re.fullmatch(r"([A-Za-z_][\w-]*)=(.*)", item, re.DOTALL)
        if not matched:
            raise UsageError(f"-O '{item}' should read key=value")
        pairs[matched[1].replace("-", "_")] = matched[2]
    return pairs


def overridden(known: Mapping[str, Option], given: Collection[str]) -> set[str]:
    """The options whose value in a recipe has to go: one was `given` that excludes them or that they exclude."""
    pairs = [(entry.name, entry.excludes) for entry in known.values() if entry.excludes]
    return {second for pair in pairs for first, second in (pair, pair[::-1]) if first in given and second not in given}


def check_text(entry: Option, *words: str) -> None:
    """Raises UsageError for words that are no text, which no file could hold."""
    for word in words:
        if "\0" in word or not _encodable(word):
            raise UsageError(f"{entry.flag}: '{word}' is not text in UTF-8")


def _encodable(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def record(config: type, values: object, affects: str = "result") -> dict[str, Any]:
    """What `values`, an object with the fields of `config`, says of the options that affect this, by name."""
    return {name: getattr(values, name) for name, entry in options(config).items() if entry.affects == affects}


def command_words(command: str, config: type, values: Mapping[str, Any]) -> list[str]:
    """The words of a command line that gives the options in `values`; a mapping for an argument's name its text."""
    words = ["fairdd", command]
    for name, entry in options(config).items():
        value = values.get(name)
        if value is None or value is False:
            continue
        if entry.is_argument:
            words += [str(each) for each in (value if isinstance(value, tuple | list) else [value])]
        elif value is True:
            words.append(entry.flag)
        elif isinstance(value, Mapping):
            short = min(entry.flags, key=len)
            words += [word for key, each in value.items() for word in (short, f"{key}={each}")]
        else:
            entries = value if isinstance(value, tuple | list) else [value]
            words += [word for each in entries for word in (entry.flag, str(each))]
    return words


def option_table(config: type) -> str:
    """A Markdown table of the options: how each is typed, its values, its default, what it does."""
    lines = ["| option | value | default | |", "| --- | --- | --- | --- |"]
    for entry in options(config).values():
        names = ", ".join(f"`{name}`" for name in (*entry.names, *entry.aliases))
        value = names or (f"`{entry.metavar}`" if entry.metavar and not entry.is_argument else "")
        default = "required" if entry.required else entry.shown_default
        if not default and not (entry.default in (None, (), {}) or entry.default is False):
            default = f"`{entry.default}`"
        spelled = ", ".join(f"`{flag}`" for flag in entry.flags) or f"`{entry.metavar}`"
        lines.append("| " + " | ".join(_cell(each) for each in (spelled, value, default, entry.help)) + " |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", r"\<")
