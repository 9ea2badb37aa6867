import random

import keras
import numpy as np

from kft.models import seeding


def drawn():
    layer = keras.layers.Dense(3)
    layer.build((None, 2))
    values = keras.ops.convert_to_numpy(keras.random.uniform((2,)))
    return random.random(), np.random.rand(), layer.get_weights()[0].tolist(), values.tolist()


def test_what_is_drawn_follows_from_the_seed_and_the_state_before_goes_on():
    seeding.set_seed(1)
    expected = [drawn(), drawn()]
    seeding.set_seed(1)
    first = drawn()
    with seeding.seeded(7):
        inside = drawn()
        with seeding.seeded(9):
            drawn()
        after = drawn()
    assert [first, drawn()] == expected
    with seeding.seeded(7):
        assert [drawn(), drawn()] == [inside, after] and inside != first
