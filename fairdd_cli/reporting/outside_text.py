"""Text that comes from files and names: shown as text, whatever it holds, and never without end."""

import hashlib

from fairdd_cli.errors import is_harmful

LONGEST = 120  # letters of a name or value in a report


def printable(text: object) -> str:
    """`text` with what could steer a terminal or turn the line round replaced; all other letters stay."""
    words = str(text)
    if words.isprintable():
        return words
    return "".join("\N{REPLACEMENT CHARACTER}" if is_harmful(letter) else letter for letter in words)


def bounded(text: object, letters: int = LONGEST) -> str:
    """`text`, printable; one that is longer than that ends in a part of its digest, so that it still differs."""
    words = str(text)
    if len(words) <= letters:
        return printable(words)
    digest = hashlib.sha256(words.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{printable(words[: letters - len(digest) - 1])}…{digest}"
