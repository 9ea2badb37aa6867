"""Where a tokenizer's family puts its special tokens around one text or two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from kft.text.tokens import SequencePreprocessor, pack


@dataclass(frozen=True)
class Layout:
    """A row is `start x end`, or `start first middle second end` for two texts.

    Attributes:
        start: Ids before the first text, such as `[CLS]`; empty for many decoders and for T5.
        middle: Ids between two texts: `[SEP]` in BERT, `</s></s>` in RoBERTa.
        end: Ids after the last text.
        pad: The id that fills a row.
        names: The backbone's inputs that the preprocessor gives.
    """

    start: tuple[int, ...]
    middle: tuple[int, ...]
    end: tuple[int, ...]
    pad: int
    names: tuple[str, ...]

    def num_special(self, num_texts: int) -> int:
        """Special tokens in a row of one text or two."""
        return len(self.start) + len(self.end) + (len(self.middle) if num_texts == 2 else 0)


def of(preprocessor: Any) -> Layout:
    """The layout that a preprocessor packs its rows in.

    Args:
        preprocessor: A KerasHub preprocessor of a text classifier or a masked language model, or a
            `SequencePreprocessor`.
    """
    found = tf.function(lambda text: pack(preprocessor, [text]), autograph=False)(
        tf.constant([""])
    )  # builds its packer, too
    inputs = found[0] if isinstance(found, tuple) else found  # a masked language model's gives targets as well
    names = [name for name in inputs if name != "mask_positions"]
    if isinstance(preprocessor, SequencePreprocessor):
        tokenizer = preprocessor.tokenizer
        start, end = (getattr(tokenizer, f"{name}_token_id", None) for name in ("start", "end"))
        middle = () if end is None else (end,)
        return Layout(
            start=() if start is None or start == end else (start,),
            middle=middle,
            end=tuple(preprocessor.end_order or middle),
            pad=getattr(tokenizer, "pad_token_id", None) or 0,
            names=tuple(names),
        )
    packer = preprocessor.packer
    start, middle, end = (tuple(ids) for ids in (packer.start_value, packer.sep_value, packer.end_value))
    return Layout(start, middle, end, packer.pad_value or 0, tuple(names))
