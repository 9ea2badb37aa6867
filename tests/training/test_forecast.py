import numpy as np
import pytest

from kft.data.batches import Batch
from kft.models import heads, presets
from kft.training import forecast

PLANNED = [Batch(np.arange(8), 16)] * 5


@pytest.fixture
def seconds(tiny_preset, monkeypatch):
    """(Rates that are not without end, further arguments) to the seconds that are foreseen."""
    model = heads.sequence_model(presets.find(tiny_preset), 2, max_length=16, dtype="float32", seed=0)

    def of(rates, *arguments):
        never = {"matmul_rate": float("inf"), "memory_rate": float("inf"), "python_s": 0.0}
        for name, rate in {**never, **rates}.items():
            monkeypatch.setattr(forecast, name, lambda *dtype, rate=rate: rate)
        return forecast.work_of(model, model, PLANNED, *arguments).seconds("float32")

    return of


def test_validation_and_the_making_of_graphs_are_foreseen_too(seconds):
    for rates in ({"matmul_rate": 1e6}, {"memory_rate": 1e6}):
        without, once = seconds(rates, 1, 0), seconds(rates, 1, 640)
        assert 1.1 < once / without < 1.6  # as many tokens as are trained on, but forward alone
        assert seconds(rates, 3, 640) == pytest.approx(3 * once)
    without, graphs = seconds({"python_s": 1.0}, 1, 0), seconds({"python_s": 1.0}, 1, 640)
    assert 200 < without < graphs
    assert seconds({"python_s": 1.0}, 2, 640) - graphs == pytest.approx(forecast.STEP * len(PLANNED))
