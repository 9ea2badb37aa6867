import keras
import numpy as np
import pytest
import tensorflow as tf

from kft.recipe import Recipe
from kft.training import optimizers, schedules
from kft.training.accumulation import Windows
from kft.transfer.rules import Rule, plain

RATE = 0.01
TWICE, ONCE = [2, 0, 2], [2, 0, 4]


def steps_of(optimizer, rows=TWICE, is_sparse=True, count=5):
    """The weights of a kernel, a bias and an embedding table after some steps with gradients of different sizes.

    The table's gradient stands in a few `rows`; where one occurs twice, its values add up.
    """
    random = np.random.default_rng(0)
    shapes = {"kernel": (4, 3), "bias": (3,), "embeddings": (6, 3)}
    variables = [keras.Variable(random.normal(size=s).astype(np.float32), name=n) for n, s in shapes.items()]
    optimizer.exclude_from_weight_decay(var_list=[v for v in variables if not plain(v).decay])
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
        ({"beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-4}, TWICE),
    ],
    ids=["plain", "decay", "clipping", "moments"],
)
def test_fused_update_is_that_of_keras(settings, rows):
    settings = {"learning_rate": RATE, "weight_decay": 0.0, **settings}
    fused = steps_of(optimizers.FusedAdamW(**settings), rows)
    # Keras gets the sums: of a row that occurs twice it would square each gradient alone.
    by_keras = steps_of(keras.optimizers.AdamW(**settings), rows, is_sparse=False)
    for found, expected in zip(fused, by_keras, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_rule_multiplies_the_rate_of_its_variable_only():
    slow, fast = (optimizers.FusedAdamW(RATE * factor, weight_decay=0.0) for factor in (1, 10))
    mixed = optimizers.FusedAdamW(RATE, weight_decay=0.0)
    mixed.rules = [Rule(), Rule(rate=10.0), Rule()]
    (kernel, _, table), (_, bias, _) = steps_of(slow), steps_of(fast)
    for found, expected in zip(steps_of(mixed), [kernel, bias, table], strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_rule_multiplies_the_decay_too_as_in_a_parameter_group():
    one, other = (keras.Variable(np.ones(2, np.float32), name=name) for name in ("kernel", "kernel"))
    made = optimizers.FusedAdamW(0.1, weight_decay=0.5)
    made.rules = [Rule(), Rule(rate=10.0)]
    made.build([one, other])
    made.apply([np.zeros(2, np.float32)] * 2, [one, other])
    np.testing.assert_allclose([one[0], other[0]], [0.95, 0.5], atol=1e-6)


WINDOWS = Windows(batches_per_epoch=3, total=5, accumulated=2, pieces=2)  # updates of 4, 2, 4 calls


def accumulated(windows, gradients):
    """A weight after each call, and the updates made then; a gradient of None overflows."""
    weight = keras.Variable(np.ones(2, np.float32), name="kernel")
    rate = schedules.WarmupDecay(RATE, 0, windows.num_updates, "linear", windows)
    adam = optimizers.FusedAdamW(rate, windows=windows, weight_decay=0.1)
    scaled = optimizers.LossScaling(adam, initial_scale=1.0)
    scaled.build([weight])
    step = tf.function(lambda gradient: scaled.apply([gradient], [weight]))
    found = []
    for gradient in gradients:
        scaled.dynamic_scale.assign(1.0)
        step(tf.constant([np.inf, 0.0] if gradient is None else [gradient, 1.0], tf.float32))
        found.append((float(weight[0]), int(adam.iterations)))
    return found


def test_calls_of_an_update_are_summed_and_none_is_left_over():
    found = accumulated(WINDOWS, [0.1, 0.2, 0.3, 0.4, -2.0, 0.5, 0.1, -0.6, 0.2, 0.0])
    assert [updates for _, updates in found] == [0, 0, 0, 1, 1, 2, 2, 2, 2, 3]
    weight = keras.Variable(np.ones(2, np.float32), name="kernel")
    by_keras = keras.optimizers.AdamW(schedules.WarmupDecay(RATE, 0, 3), weight_decay=0.1)
    by_keras.build([weight])
    expected = []
    for one, other in [(1.0, 4.0), (-1.5, 2.0), (-0.3, 4.0)]:
        by_keras.apply([tf.constant([one, other])], [weight])
        expected.append(float(weight[0]))
    assert [found[i][0] for i in (3, 5, 9)] == pytest.approx(expected, abs=1e-6)
    assert found[2][0] == 1.0 and found[4][0] == found[3][0]


def test_a_call_that_overflows_is_counted_and_the_others_of_its_update_are_applied():
    whole = accumulated(WINDOWS, [0.3, 0.0, 0.3, 0.4, 1.0, 1.0])
    skipped = accumulated(WINDOWS, [None, 0.3, 0.7, None, None, None])
    assert [updates for _, updates in skipped] == [0, 0, 0, 1, 1, 1]  # of the second update nothing is there
    assert skipped[3][0] == pytest.approx(whole[3][0], abs=1e-5) and skipped[5] == skipped[3]


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize(
    ("epoch", "accumulated", "steps", "updates"),
    [(1, 8, 3, [1, 1, 1]), (5, 3, 9, [3, 2, 3, 1]), (4, 2, 8, [2, 2, 2, 2]), (7, 9, 2, [2]), (3, 1, 4, [1] * 4)],
)
def test_every_batch_is_in_an_update_that_ends_with_its_epoch(epoch, accumulated, steps, updates, pieces):
    windows = Windows(epoch, steps, accumulated, pieces)
    calls = range(steps * pieces)
    ends = [call + 1 for call in calls if windows.is_last(call)]
    assert np.diff([0, *ends]).tolist() == [pieces * count for count in updates]
    assert [windows.update_of(call) for call in calls] == np.repeat(
        np.arange(len(updates)), np.diff([0, *ends])
    ).tolist()
    assert (windows.num_updates, windows.most_calls) == (len(updates), pieces * max(updates))


def test_recipe_decides_on_decay_clipping_and_accumulation():
    kernel, bias = (keras.Variable(np.ones(2, np.float32), name=name) for name in ("kernel", "bias"))
    recipe = Recipe.of(weight_decay=0.5, max_grad_norm=0, adam_beta2=0.9)
    rate = schedules.WarmupDecay(RATE, 0, 10, "constant", Windows(10, 10, 3))
    rules = {"kernel": Rule(), "bias": Rule(rate=2.0, decay=False)}
    made = optimizers.adamw(recipe, rate, [kernel, bias], lambda variable: rules[variable.path])
    made.build([kernel, bias])
    assert (made.global_clipnorm, made.gradient_accumulation_steps, made.beta_2) == (None, 3, 0.9)
    assert list(made.rules) == list(rules.values())
    for _ in range(3):
        made.apply([np.zeros(2, np.float32)] * 2, [kernel, bias])
    np.testing.assert_allclose(kernel, np.full(2, 1 - 0.5 * RATE), atol=1e-6)
    np.testing.assert_allclose(bias, np.ones(2))
    usual = optimizers.adamw(Recipe.of(), rate, [kernel, bias])
    assert usual.global_clipnorm == 1.0 and list(usual.rules) == [Rule(), Rule(decay=False)]
