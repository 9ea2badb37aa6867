"""Official metrics of a benchmark that are no metrics of single rows, such as those of whole questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc

from kft.data.table import ROW, Table
from kft.datasets import registry


def metrics(
    read: Table, table: Table, answers: Mapping[str, np.ndarray], labels: Mapping[str, Any]
) -> dict[str, float]:
    """The benchmark's own metrics of answers to its rows; none of rows that are of no benchmark, or of one without.

    Args:
        read: The rows as they were read, with all columns.
        table: Those that were answered.
        answers: To these, with `scores`.
        labels: The label spec, with the names of the labels.
    """
    benchmark = registry.find(read.benchmark)[0] if read.benchmark else None
    if benchmark is None or benchmark.official is None or "scores" not in answers or "labels" not in labels:
        return {}
    places = pc.index_in(table.rows[ROW], value_set=read.rows[ROW])
    columns = {name: read.rows[name].take(places).to_pylist() for name in benchmark.kept}
    return benchmark.official({**columns, "label": table.texts("label")}, answers["scores"], labels["labels"])
