"""Text that comes from files and names: shown as text, whatever it holds, and never without end."""

import hashlib
import unicodedata

LONGEST = 120  # letters of a name or value in a report
# What could steer a terminal or end a line: control characters, lone surrogates, line and paragraph separators.
HARMFUL = frozenset({"Cc", "Cs", "Zl", "Zp"})
BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: object) -> str:
    """`text` with what could steer a terminal or turn the line round replaced; all other letters stay."""
    words = str(text)
    if words.isprintable():
        return words
    return "".join("\N{REPLACEMENT CHARACTER}" if is_harmful(letter) else letter for letter in words)


def is_harmful(letter: str) -> bool:
    """Whether `letter` could steer a terminal or turn the line round."""
    return unicodedata.category(letter) in HARMFUL or letter in BIDIRECTIONAL


def bounded(text: object, letters: int = LONGEST) -> str:
    """`text`, printable; one that is longer than that ends in a part of its digest, so that it still differs."""
    words = str(text)
    if len(words) <= letters:
        return printable(words)
    digest = hashlib.sha256(words.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{printable(words[: letters - len(digest) - 1])}…{digest}"


def truncate(text: str, letters: int) -> str:
    """`text` for a label of at most that many letters."""
    return text if len(text) <= letters else f"{text[: letters - 1]}…"
