import keras
import numpy as np
import pytest
import tensorflow as tf

from kft.recipe import Recipe
from kft.training import optimizers

RATE = 0.01
TWICE, ONCE = [2, 0, 2], [2, 0, 4]


def steps_of(optimizer, rows=TWICE, is_sparse=True, count=5):
    """The weights of a kernel, a bias and an embedding table after some steps with gradients of different sizes.

    The table's gradient stands in a few `rows`; where one occurs twice, its values add up.
    """
    random = np.random.default_rng(0)
    shapes = {"kernel": (4, 3), "bias": (3,), "embeddings": (6, 3)}
    variables = [keras.Variable(random.normal(size=s).astype(np.float32), name=n) for n, s in shapes.items()]
    optimizer.exclude_from_weight_decay(var_list=[v for v in variables if not optimizers.is_kernel(v)])
    optimizer.build(variables)

    @tf.function
    def step(kernel, bias, values):
        table = tf.IndexedSlices(values, tf.constant(rows), tf.constant([6, 3]))
        optimizer.apply([kernel, bias, table if is_sparse else tf.convert_to_tensor(table)], variables)

    for scale in np.geomspace(0.01, 10, count):
        step(*[tf.constant(random.normal(size=s) * scale, tf.float32) for s in [(4, 3), (3,), (3, 3)]])
    return [np.asarray(variable) for variable in variables]


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({}, TWICE),
        ({"weight_decay": 0.1}, TWICE),
        ({"global_clipnorm": 1.0, "weight_decay": 0.01}, ONCE),
        ({"gradient_accumulation_steps": 2}, TWICE),
        ({"beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-4}, TWICE),
    ],
    ids=["plain", "decay", "clipping", "accumulation", "moments"],
)
def test_fused_update_is_that_of_keras(settings, rows):
    settings = {"learning_rate": RATE, "weight_decay": 0.0, **settings}
    fused = steps_of(optimizers.FusedAdamW(**settings), rows)
    # Keras gets the sums: of a row that occurs twice it would square each gradient alone.
    by_keras = steps_of(keras.optimizers.AdamW(**settings), rows, is_sparse=False)
    for found, expected in zip(fused, by_keras, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_factor_multiplies_the_rate_of_its_variable_only():
    slow, fast = (optimizers.FusedAdamW(RATE * factor, weight_decay=0.0) for factor in (1, 10))
    mixed = optimizers.FusedAdamW(RATE, weight_decay=0.0)
    mixed.factors = {"bias": 10.0}
    (kernel, _, table), (_, bias, _) = steps_of(slow), steps_of(fast)
    for found, expected in zip(steps_of(mixed), [kernel, bias, table], strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_recipe_decides_on_decay_clipping_and_accumulation():
    kernel, bias = (keras.Variable(np.ones(2, np.float32), name=name) for name in ("kernel", "bias"))
    recipe = Recipe.of(weight_decay=0.5, max_grad_norm=0, gradient_accumulation_steps=3, adam_beta2=0.9)
    rate = optimizers.WarmupDecay(RATE, 0, 10, "constant")
    made = optimizers.adamw(recipe, rate, [kernel, bias], {"bias": 2.0})
    made.build([kernel, bias])
    assert (made.global_clipnorm, made.gradient_accumulation_steps, made.beta_2) == (None, 3, 0.9)
    assert made.factors == {"bias": 2.0}
    for _ in range(3):
        made.apply([np.zeros(2, np.float32)] * 2, [kernel, bias])
    np.testing.assert_allclose(kernel, np.full(2, 1 - 0.5 * RATE), atol=1e-6)
    np.testing.assert_allclose(bias, np.ones(2))
    assert optimizers.adamw(Recipe.of(), rate, [kernel], {}).global_clipnorm == 1.0


@pytest.mark.parametrize(
    ("decay", "rates"),
    [
        ("linear", {0: 0.5, 1: 1.0, 2: 1.0, 4: 0.5, 6: 0.0, 9: 0.0}),
        ("cosine", {0: 0.5, 2: 1.0, 3: 0.853553, 4: 0.5, 6: 0.0, 9: 0.0}),
        ("constant", {0: 0.5, 1: 1.0, 4: 1.0, 9: 1.0}),
    ],
)
def test_warmup_and_decay_by_hand(decay, rates):
    rate = optimizers.WarmupDecay(2.0, warmup_steps=2, total_steps=6, decay=decay)
    assert {step: rate.at(step) for step in rates} == pytest.approx({s: 2 * r for s, r in rates.items()}, abs=1e-6)


def test_without_warmup_the_first_step_is_the_highest():
    assert optimizers.WarmupDecay(2.0, 0, 4).at(0) == 2.0


def test_warmup_is_a_share_of_all_steps_or_a_number_of_updates():
    assert optimizers.schedule(Recipe.of(warmup_steps=0.1), 1.0, 200).warmup_steps == 20
    counted = Recipe.of(warmup_steps=5, gradient_accumulation_steps=2)
    assert optimizers.schedule(counted, 1.0, 200).warmup_steps == 10
