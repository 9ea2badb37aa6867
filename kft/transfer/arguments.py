"""What stands after the colon of a strategy, as in `last:2`: from text to values."""

from __future__ import annotations

from collections.abc import Sequence


def none(text: str) -> None:
    """Nothing.

    Raises:
        ValueError: There is something.
    """
    if text:
        raise ValueError


def count(text: str) -> int:
    """A number of blocks, columns or epochs, from 1.

    Raises:
        ValueError: It is none.

    >>> count("12")
    12
    """
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 10_000):
        raise ValueError
    return int(text)


def epochs(text: str) -> int:
    """A number of epochs, from 1; 1 where nothing is said.

    Raises:
        ValueError: It is none.

    >>> epochs("2"), epochs("")
    (2, 1)
    """
    return count(text or "1")


def schedule(text: str) -> tuple[int, ...] | None:
    """Numbers of blocks by epoch, none less than the one before; None where nothing is said.

    Raises:
        ValueError: It is none, or less than two of the numbers differ.

    >>> schedule("0-2-2-6"), schedule("")
    ((0, 2, 2, 6), None)
    """
    if not text:
        return None
    numbers = [0 if part == "0" else count(part) for part in text.split("-")]
    if numbers != sorted(numbers) or len(set(numbers)) < 2:
        raise ValueError
    return tuple(numbers)


def share(text: str) -> float:
    """A number above 0, at most 1.

    Raises:
        ValueError: It is none.
    """
    if not 0 < float(text) <= 1:
        raise ValueError
    return float(text)


def pattern(text: str) -> str:
    """A pattern of names.

    Raises:
        ValueError: It is empty.
    """
    if not text:
        raise ValueError
    return text


LORA_VARIANTS = ("rslora", "dora", "pissa")


def lora_variants(text: str | Sequence[str]) -> str:
    """Variants of LoRA as a recipe holds them.

    Raises:
        ValueError: One is unknown.

    >>> lora_variants("plain"), lora_variants(["dora", "rslora"])
    ('plain', 'dora+rslora')
    """
    names = [name.strip() for name in (text.split("+") if isinstance(text, str) else text)]
    if names == ["plain"]:
        return "plain"
    if not names or any(name not in LORA_VARIANTS for name in names):
        known = ", ".join(LORA_VARIANTS)
        raise ValueError(f"expected plain, or some of {known} with + between them, as in dora+rslora")
    return "+".join(dict.fromkeys(names))
