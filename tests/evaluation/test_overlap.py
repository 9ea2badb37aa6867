import pytest

from kft.evaluation import overlap as metrics


def test_metrics_are_those_of_the_papers():
    texts, truths = ["the cat sat on the mat", "tea"], ["the cat is on the mat", " tea "]
    found = metrics.scored(texts, truths)
    assert found["rouge1"] == pytest.approx((5 / 6 + 1) / 2)
    assert found["rouge2"] == pytest.approx((3 / 5 + 0) / 2)
    assert found["rougeL"] == pytest.approx((5 / 6 + 1) / 2)
    assert found["exact_match"] == 0.5
    assert set(found) == {*metrics.NAMES, "num_rows"}
    chinese = ["我们今天去北京喝茶"]
    assert metrics.scored(chinese, chinese)["bleu"] == pytest.approx(100)
    assert metrics.rouge("北京", "北大")["rouge1"] == pytest.approx(0.5)
