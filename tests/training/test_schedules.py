import pytest

from kft.recipe import Recipe
from kft.training import schedules
from kft.training.accumulation import Windows


@pytest.mark.parametrize(
    ("decay", "rates"),
    [
        ("linear", {0: 0.5, 1: 1.0, 2: 1.0, 4: 0.5, 6: 0.0, 9: 0.0}),
        ("cosine", {0: 0.5, 2: 1.0, 3: 0.853553, 4: 0.5, 6: 0.0, 9: 0.0}),
        ("constant", {0: 0.5, 1: 1.0, 4: 1.0, 9: 1.0}),
    ],
)
def test_warmup_and_decay_by_hand(decay, rates):
    rate = schedules.WarmupDecay(2.0, warmup_updates=2, total_updates=6, decay=decay)
    assert {step: rate.at(step) for step in rates} == pytest.approx({s: 2 * r for s, r in rates.items()}, abs=1e-6)


def test_without_warmup_the_first_step_is_the_highest():
    assert schedules.WarmupDecay(2.0, 0, 4).at(0) == 2.0


def test_warmup_is_a_share_of_all_steps_or_a_number_of_updates():
    windows = Windows(batches_per_epoch=15, total=60, accumulated=4)  # updates of 4, 4, 4 and 3 batches
    assert schedules.schedule(Recipe.of(warmup_steps=0.25), 1.0, windows).warmup_updates == 4
    made = schedules.schedule(Recipe.of(warmup_steps=5), 1.0, windows)
    assert (made.warmup_updates, made.total_updates) == (5, 16)
    assert [made.at(step) for step in (0, 3, 4, 14, 15, 19)] == pytest.approx([0.2, 0.2, 0.4, 0.8, 1.0, 1.0])
    assert schedules.WarmupDecay.from_config(made.get_config()).at(4) == made.at(4)
