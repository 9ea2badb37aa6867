import numpy as np
import pytest
import tensorflow as tf

from kft.text import decode

eager_and_graph = pytest.mark.parametrize("way", [lambda function: function, tf.function], ids=["eager", "graph"])


@eager_and_graph
def test_classes_by_hand(way):
    logits = tf.constant([[0.0, np.log(3.0)], [np.log(4.0), 0.0]], tf.bfloat16)
    answers = way(lambda logits: decode.classes(logits, ["no", "yes"]))(logits)
    assert answers["label"].numpy().tolist() == [b"yes", b"no"]
    np.testing.assert_allclose(answers["score"], [0.75, 0.8], atol=2e-3)
    np.testing.assert_allclose(answers["scores"], [[0.25, 0.75], [0.8, 0.2]], atol=2e-3)
    assert answers["score"].dtype == answers["scores"].dtype == tf.float32
    np.testing.assert_allclose(np.sum(answers["scores"], axis=1), 1, atol=1e-6)


@eager_and_graph
def test_values_by_hand(way):
    answers = way(lambda outputs: decode.values(outputs, 3.0, 2.0))(tf.constant([[0.0], [-1.5]]))
    assert answers["value"].numpy().tolist() == [3.0, 0.0]
