"""The learning rates that `auto` stands for."""

from __future__ import annotations

from kft.transfer.strategies import is_small

FROZEN_LEARNING_RATE = 1e-3
BASE_PARAMETERS = 110e6


def learning_rate(num_parameters: int, transfer: str) -> float:
    """The rate that `learning_rate="auto"` stands for.

    Full fine-tuning: 3e-5 for a backbone of BERT-base's size (Devlin et al., 2019, app. A.3, search 2e-5 to 5e-5),
    in inverse proportion to the parameters (`presets.count_parameters`), within 1e-5 and 3e-4. A head on a frozen
    backbone: 1e-3. Adapters, biases or norms on a frozen backbone: ten times that of full fine-tuning, within 1e-3.

    >>> learning_rate(110_000_000, "full")
    3e-05
    >>> learning_rate(4_400_000, "full")
    0.0003
    >>> round(learning_rate(110_000_000, "lora:8"), 6), learning_rate(22_000_000, "lora:8")
    (0.0003, 0.001)
    """
    if transfer == "features":
        return FROZEN_LEARNING_RATE
    full = min(3e-4, max(1e-5, 3e-5 * BASE_PARAMETERS / num_parameters))
    return min(FROZEN_LEARNING_RATE, 10 * full) if is_small(transfer) else full


def head_learning_rate(rate: float) -> float:
    """The rate that `head_learning_rate="auto"` stands for: ten times the backbone's, within 1e-3, never below it.

    The head starts from random weights and has further to go than the pretrained backbone.

    >>> head_learning_rate(3e-05), head_learning_rate(3e-4), head_learning_rate(2e-3)
    (0.00030000000000000003, 0.001, 0.002)
    """
    return max(rate, min(10 * rate, FROZEN_LEARNING_RATE))


def lone_head_learning_rate(head_rate: float) -> float:
    """The rate of the head in a stage in which it trains alone, where `head_learning_rate` is `auto`.

    That of a head on a frozen backbone, or that of the head if it is higher.

    >>> lone_head_learning_rate(3e-4), lone_head_learning_rate(2e-3)
    (0.001, 0.002)
    """
    return max(FROZEN_LEARNING_RATE, head_rate)
