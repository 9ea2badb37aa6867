"""Texts as features, on their way from what computes them to the store."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

ROW_IDS = "row_ids"
"""The feature that tells the rows of a line apart, beside its tokens: from 1 on, 0 where there are none."""


class Encoded(NamedTuple):
    """A slice of texts as features, of any dtype and trailing shape.

    Attributes:
        features: By name, without masks, each `(rows, tokens, …)` and still padded.
        lengths: Real tokens in each row, `(rows,)`, by group. Features whose names begin alike are one group and have
            the same lengths: all of them for one text, `encoder_` and `decoder_` for a sequence-to-sequence model.
        texts: Which text of the slice each row is from, `(rows,)` int64, ascending. Each text has a row, or several
            that are windows of it.
        row_features: By name, one value for each row, `(rows, …)`.
    """

    features: dict[str, np.ndarray]
    lengths: dict[str, np.ndarray]
    texts: np.ndarray
    row_features: Mapping[str, np.ndarray] = MappingProxyType({})
