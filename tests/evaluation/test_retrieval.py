import numpy as np
import pytest

from kft.evaluation import retrieval


def unit(random, *shape):
    vectors = random.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_places_by_hand(monkeypatch):
    east, north, between = [1, 0], [0, 1], [0.6, 0.8]
    texts, pairs = ["a", "b", "c"], ["x", "y", "z"]
    for cells in (1, 2**24):  # row by row, and all at once
        monkeypatch.setattr(retrieval, "BLOCK_CELLS", cells)
        places, nearest = retrieval.ranks([east, north, north], [east, between, north], texts, pairs)
        assert places.tolist() == [1, 2, 1] and nearest.tolist() == [0, 2, 2]
    assert retrieval.ranks([east] * 3, [east] * 3, texts, pairs)[0].tolist() == [3, 3, 3]


def test_other_right_pairs_are_not_wrong():
    east, north = [1.0, 0.0], [0.0, 1.0]
    # Both pairs of "a" are right for it, and "b" is not asked to tell itself from its own text among the pairs.
    places, _ = retrieval.ranks([east, east, east], [east, north, north], ["a", "a", "b"], ["x", "y", "z"])
    assert places.tolist() == [1, 2, 3]
    places, _ = retrieval.ranks([east, north], [north, east], ["a", "b"], ["b", "a"])
    assert places.tolist() == [1, 1]


def test_ndcg_is_that_of_scikit_learn():
    from sklearn.metrics import ndcg_score

    random = np.random.default_rng(0)
    queries, candidates = unit(random, 30, 5), unit(random, 30, 5)
    names = [str(i) for i in range(30)]
    places, _ = retrieval.ranks(queries, candidates, [f"q{name}" for name in names], names)
    found = retrieval.scored(places)
    assert found["ndcg_at_10"] == pytest.approx(ndcg_score(np.eye(30), queries @ candidates.T, k=10), abs=1e-6)
    assert found["recall_at_1"] == pytest.approx((places == 1).mean())
