"""How the original tokenizer of a preset reads a text, where KerasHub's own tokenizer would read it otherwise.

The rules are read off the preset's own files when a fit begins, and kept beside the vocabulary of the preset that the
fit saves. A tokenizer without rules reads texts as KerasHub does.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tensorflow as tf
from pydantic import Field
from typing_extensions import TypedDict  # pydantic takes no other on Python 3.11

from kft import untrusted
from kft.errors import PresetError

FILE = "rules.json"
"""Beside the vocabulary, where KerasHub does not look."""

Normalizer = Literal[
    "clean", "cjk", "nfc", "nfd", "nfkc", "nfkd", "nonspacing", "marks", "combining", "lower", "quotes", "spaces"
]
Split = Literal["bert", "gpt2", "gpt2_digits", "llama3", "qwen2", "sentencepiece", "albert"]


@dataclass(frozen=True)
class Added:
    """A token that is found in the text itself, before anything else is done to it.

    Attributes:
        text: As it stands in texts.
        id: Its token id.
        takes_left: Whether spaces before it belong to it.
        takes_right: Whether spaces after it belong to it.
    """

    text: str
    id: int
    takes_left: bool = False
    takes_right: bool = False


@dataclass(frozen=True)
class Rules:
    """What is done to a text before its words are looked up, in this order.

    Attributes:
        added: Tokens found in the text itself.
        normalizers: Changes to what lies between them, in order; see `kft.text.normalizers`.
        split: How it is cut into words.
        prefix_space: Whether a space is put before it, where it has none.
        whole_words: Whether a word that is in the vocabulary is a token, whatever its merges say.
    """

    added: tuple[Added, ...] = ()
    normalizers: tuple[Normalizer, ...] = ()
    split: Split = "bert"
    prefix_space: bool = False
    whole_words: bool = False


class _SavedToken(TypedDict):
    text: Annotated[str, Field(min_length=1)]
    id: Annotated[int, Field(ge=0, lt=2**31)]
    takes_left: bool
    takes_right: bool


class _Saved(TypedDict):
    """`Rules` as they stand in the file."""

    added: list[_SavedToken]
    normalizers: list[Normalizer]
    split: Split
    prefix_space: bool
    whole_words: bool


def of(tokenizer: Any) -> Rules | None:
    """The rules that were attached to a tokenizer."""
    return getattr(tokenizer, "kft_rules", None)


def attach(tokenizer: Any, rules: Rules) -> Any:
    """The same tokenizer, which from now on reads texts by these rules and saves them beside its vocabulary.

    Its class stays KerasHub's, so a preset that it is saved in opens with plain KerasHub.

    Raises:
        PresetError: They are those of another kind of tokenizer.
    """
    from kft.text import original

    if rules.split not in original.SPLITS[original.kind(tokenizer)]:
        raise PresetError(
            f"{FILE}: split: found {rules.split!r}, expected one of {type(tokenizer).__name__}: "
            f"{', '.join(original.SPLITS[original.kind(tokenizer)])}."
        )
    save_vocabulary = tokenizer.save_assets

    def save_assets(folder: str) -> None:
        save_vocabulary(folder)
        write(Path(folder), rules)

    # One graph for all that call it: each would trace the same hundreds of operations anew.
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)
    def ids(texts: Any) -> Any:
        return original.tokenize(tokenizer, texts).ids

    def tokenize(inputs: Any) -> Any:
        texts = tf.convert_to_tensor(inputs)
        return ids(texts[tf.newaxis])[0] if texts.shape.rank == 0 else ids(texts)

    tokenizer.kft_rules = rules
    tokenizer.save_assets = save_assets
    tokenizer.tokenize = tokenize
    return tokenizer


def write(folder: Path, rules: Rules) -> None:
    """Writes the rules into the folder of a tokenizer's vocabulary."""
    Path(folder, FILE).write_text(json.dumps(asdict(rules), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> Rules | None:
    """The rules in the folder of a tokenizer's vocabulary, or None where there are none.

    Raises:
        PresetError: The file is damaged.
    """
    path = Path(folder, FILE)
    if not path.exists() and not path.is_symlink():
        return None
    found = untrusted.read_json(path, _Saved, PresetError)
    added = tuple(Added(**token) for token in found.pop("added"))
    return Rules(added, tuple(found.pop("normalizers")), **found)
