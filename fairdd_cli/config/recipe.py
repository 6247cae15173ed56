"""Recipes: YAML files that set the options of commands, spelled as on the command line.

A value is what would be typed: `off`, `no` and `010` stay these words, whatever YAML makes of them.
"""

import os
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from fairdd_cli.config import COMMANDS
from fairdd_cli.config._options import Option, options
from fairdd_cli.errors import UsageError, unknown

SIZE_LIMIT = 2**17  # bytes of a recipe
DEPTH_LIMIT = 8  # of collections in collections
NODE_LIMIT = 10_000  # values, those that aliases repeat included
NOTHING = ("", "~", "null", "Null", "NULL")  # plain values that leave an option at its default
FOLDER = resources.files("fairdd_cli.config").joinpath("recipes")


def recipe_names() -> list[str]:
    """The recipes inside the package, sorted."""
    return sorted(entry.name.removesuffix(".yaml") for entry in FOLDER.iterdir() if entry.name.endswith(".yaml"))


def read_recipe(where: str, command: str) -> dict[str, Any]:
    """The options of `command`, by field, that the recipe `where` (a file, or the name of a packaged one) sets.

    Values have the types of their options. Those of a repeatable one are a list of words. Raises UsageError, with
    the line, for what is no recipe, is given twice, or is no option, and names the nearest.
    """
    document = _Document(where)
    sections = dict(document.entries(document.root, "a recipe should hold a section for each command"))
    for section in sections:
        if section not in COMMANDS:
            raise document.error(None, str(unknown("section", section, COMMANDS)))
    found: dict[str, Any] = {}
    section_node = sections.get(command)
    if section_node is None or document.is_nothing(section_node):
        return found
    known = {
        spelling: entry
        for entry in options(COMMANDS[command]).values()
        if entry.name != "recipe"
        for spelling in (entry.name, *(flag.lstrip("-") for flag in entry.flags))
    }
    spellings = sorted({entry.spelling for entry in known.values()})
    for key, node in document.entries(section_node, f"the section '{command}' should hold options"):
        if key not in known:
            raise document.error(node, str(unknown(f"option of '{command}'", key, spellings)))
        entry = known[key]
        if entry.name in found:
            raise document.error(node, f"'{key}' is given twice")
        if not document.is_nothing(node):
            found[entry.name] = document.value(entry, node)
    return found


class _Document:
    """A YAML file as nodes, which know their lines, and whose values are the words that stand there."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._left = NODE_LIMIT
        text = self._text(where)
        try:
            self._check_depth(text)
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            cause = error.problem or error.context or "not YAML"
            if "'\\t'" in cause:
                cause = "a tab; indent with spaces"
            raise UsageError(f"{self._place(mark.line if mark else None)}: {cause}") from error
        except yaml.YAMLError as error:
            raise UsageError(f"{self._place(None)}: {' '.join(str(error).split())}") from error
        if root is None:
            raise UsageError(f"{self._place(None)}: the recipe is empty")
        self.root = root

    def _check_depth(self, text: str) -> None:
        """Raises UsageError for collections so deep that composing them would exhaust the stack."""
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH_LIMIT:
                line = event.start_mark.line if event.start_mark else None
                raise UsageError(f"{self._place(line)}: more than {DEPTH_LIMIT} levels")

    def _text(self, where: str) -> str:
        try:
            path = Path(where)
            if os.sep not in where and where in recipe_names() and (path.is_dir() or not path.exists()):
                return FOLDER.joinpath(f"{where}.yaml").read_text(encoding="utf-8")
            with path.open("rb") as stream:
                content = stream.read(SIZE_LIMIT + 1)
            if len(content) > SIZE_LIMIT:
                raise UsageError(f"--recipe: '{where}' is larger than {SIZE_LIMIT // 1024} KiB")
            return content.decode("utf-8-sig")
        except FileNotFoundError as error:
            if os.sep in where or where.endswith((".yaml", ".yml")):
                raise UsageError(f"--recipe: '{where}' does not exist") from error
            raise UsageError(f"--recipe: no file and {unknown('recipe', where, recipe_names())}") from error
        except OSError as error:
            raise UsageError(f"--recipe: '{where}' cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"--recipe: '{where}' is not text in UTF-8") from error

    def _place(self, line: int | None) -> str:
        return f"--recipe: '{self.where}'" + ("" if line is None else f", line {line + 1}")

    def error(self, node: yaml.Node | None, reason: str) -> UsageError:
        """The error for what is wrong with `node`, with its line."""
        return UsageError(f"{self._place(node.start_mark.line if node is not None else None)}: {reason}")

    def entries(self, node: yaml.Node, expected: str) -> Iterator[tuple[str, yaml.Node]]:
        """The keys and values of a mapping; raises UsageError, with what was `expected`, for another node."""
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, expected)
        seen = set()
        for key, value in node.value:
            self._count(key)
            if not isinstance(key, yaml.ScalarNode):
                raise self.error(key, "a key should be a word")
            if key.value in seen:
                raise self.error(key, f"'{key.value}' is given twice")
            seen.add(key.value)
            yield key.value, value

    def _count(self, node: yaml.Node) -> None:
        self._left -= 1
        if self._left < 0:
            raise self.error(node, f"more than {NODE_LIMIT:,} values")

    def is_nothing(self, node: yaml.Node) -> bool:
        """Whether `node` is an empty value, written without quotes."""
        return isinstance(node, yaml.ScalarNode) and node.style is None and node.value in NOTHING

    def value(self, entry: Option, node: yaml.Node) -> Any:
        """What `node` stands for as the value of the option `entry`."""
        if entry.base_type is Mapping and isinstance(node, yaml.MappingNode):
            return [f"{key}={self._word(value)}" for key, value in self.entries(node, "should hold key: value")]
        words = [self._word(each) for each in node.value] if isinstance(node, yaml.SequenceNode) else [self._word(node)]
        if entry.repeatable:
            return words
        try:
            return entry.read(",".join(words))
        except UsageError as error:
            raise self.error(node, str(error)) from error

    def _word(self, node: yaml.Node) -> str:
        self._count(node)
        if not isinstance(node, yaml.ScalarNode):
            raise self.error(node, "should be one value")
        return str(node.value)
