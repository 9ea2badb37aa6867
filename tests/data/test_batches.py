import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kft.data import batches
from kft.data.feed import in_row_order

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=200).map(np.array)
PLANS = {
    "batch_size": st.integers(1, 20),
    "shuffle": st.booleans(),
    "fixed_lengths": st.sampled_from([(), (8, 16, 64)]),
    "multiple_of": st.sampled_from([1, 2, 3]),
}


def real_rows(batch):
    return batch.rows[: len(batch.rows) - batch.num_padding]


@settings(deadline=None)
@given(LENGTHS, st.fixed_dictionaries(PLANS), st.integers(0, 5))
def test_every_row_comes_once_in_shapes_that_were_asked_for(lengths, how, epoch):
    planned = batches.plan(lengths, seed=3, epoch=epoch, **how)
    assert sorted(np.concatenate([real_rows(b) for b in planned])) == list(range(len(lengths)))
    for batch in planned:
        assert lengths[batch.rows].max() <= batch.length
        assert len(batch.rows) % how["multiple_of"] == 0
        if how["fixed_lengths"]:
            assert batch.length in how["fixed_lengths"]
            assert len(batch.rows) == -(-how["batch_size"] // how["multiple_of"]) * how["multiple_of"]
        else:
            assert batch.length == lengths[batch.rows].max()
            assert batch.num_padding < how["multiple_of"]


@settings(deadline=None)
@given(LENGTHS, st.fixed_dictionaries(PLANS))
def test_row_order_comes_back(lengths, how):
    planned = batches.plan(lengths, seed=3, **how)
    outputs = np.concatenate([np.stack([b.rows, lengths[b.rows]], axis=1) for b in planned])
    ordered = in_row_order(outputs, planned)
    assert ordered[:, 0].tolist() == list(range(len(lengths)))
    assert ordered[:, 1].tolist() == lengths.tolist()


def as_lists(planned):
    return [(b.rows.tolist(), b.length, b.num_padding) for b in planned]


def test_plan_follows_from_seed_and_epoch():
    lengths = np.random.default_rng(0).integers(1, 50, 300)
    plan = batches.plan(lengths, 8, seed=1, epoch=2)
    assert as_lists(plan) == as_lists(batches.plan(lengths, 8, seed=1, epoch=2))
    assert as_lists(plan) != as_lists(batches.plan(lengths, 8, seed=1, epoch=3))
    assert as_lists(plan) != as_lists(batches.plan(lengths, 8, seed=2, epoch=2))


def test_rows_of_like_length_share_a_batch():
    lengths = np.random.default_rng(0).integers(1, 100, 2000)
    grouped = batches.padded_tokens(batches.plan(lengths, 20))
    order = np.random.default_rng(0).permutation(2000)
    at_random = sum(20 * lengths[order[i : i + 20]].max() for i in range(0, 2000, 20))
    assert grouped < 1.1 * lengths.sum() < 1.8 * lengths.sum() < at_random


def test_batches_do_not_come_in_order_of_length():
    lengths = np.random.default_rng(0).integers(1, 100, 2000)
    longest = [b.length for b in batches.plan(lengths, 20)]
    assert abs(np.corrcoef(longest, range(len(longest)))[0, 1]) < 0.3


def test_without_shuffling_the_longest_rows_come_first():
    planned = batches.plan(np.array([3, 9, 5, 9, 1]), 2, shuffle=False)
    assert as_lists(planned) == [([1, 3], 9, 0), ([2, 0], 5, 0), ([4], 1, 0)]


def test_last_batch_is_filled_up_for_compilers_and_devices():
    lengths = np.array([3, 9, 5, 9, 1])
    compiled = batches.plan(lengths, 4, shuffle=False, fixed_lengths=(8, 16))
    assert as_lists(compiled) == [([1, 3, 2, 0], 16, 0), ([4, 4, 4, 4], 8, 3)]
    shared = batches.plan(lengths, 3, shuffle=False, multiple_of=2)
    assert as_lists(shared) == [([1, 3, 2, 1], 9, 1), ([0, 4], 3, 0)]


@pytest.mark.parametrize(("longest", "lengths"), [(128, (32, 64, 128)), (100, (32, 64, 100)), (20, (20,))])
def test_fixed_lengths_are_few_and_end_at_the_longest(longest, lengths):
    assert batches.fixed_lengths(longest) == lengths
