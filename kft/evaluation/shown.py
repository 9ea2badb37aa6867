"""The former name of `kft.evaluation.worst_rows`."""

from kft.evaluation.worst_rows import (
    chosen,
    classified,
    extracted,
    generated,
    label_sets,
    regressed,
    retrieved,
    sets,
    tagged,
)

__all__ = [
    "chosen",
    "classified",
    "extracted",
    "generated",
    "label_sets",
    "regressed",
    "retrieved",
    "sets",
    "tagged",
]
