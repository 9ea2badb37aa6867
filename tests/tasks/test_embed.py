import json

import keras_hub
import numpy as np
import pytest
import tensorflow as tf

import kft
from kft.errors import DataError, PresetError, RecipeError
from kft.models import encoders, heads, presets
from kft.readers import formats
from kft.tasks import embed
from kft.tasks.embed import EMBED
from kft.text import decode

NOUNS = ["parcel", "courier", "invoice", "refund", "lamp", "chair"]
PROBLEMS = ["is late", "is wrong", "was lost", "was not good"]


@pytest.fixture(scope="module")
def rows():
    """48 pairs about one thing and one problem, and a text about another thing."""
    everything = [(noun, problem) for noun in NOUNS for problem in PROBLEMS] * 2
    return [
        {
            "text": f"the {noun} {problem} {'today' if number < 24 else 'now'}",
            "text_pair": f"my {noun} {problem}",
            "negative": f"my {NOUNS[(NOUNS.index(noun) + 1) % 6]} {problem}",
        }
        for number, (noun, problem) in enumerate(everything)
    ]


@pytest.fixture(scope="module")
def pairs(rows):
    return [{"text": row["text"], "text_pair": row["text_pair"]} for row in rows]


@pytest.fixture(scope="module")
def run(pairs, quick, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "pairs"
    shares = {"validation": pairs[::4], "test": pairs[1::4], "allow_leaks": True}
    return kft.fit(pairs, task="embed", epochs=8, out=str(out), **shares, **quick)


def unit(random, *shape):
    vectors = random.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


# -- a whole fit ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_pairs_are_learnt_and_a_single_text_is_answered(run):
    assert run.task is EMBED and run.text_columns == ["text"]
    assert run.metrics["test"]["mrr"] > 0.9
    assert list(run.metrics["validation"]) == ["recall_at_1", "recall_at_10", "mrr", "ndcg_at_10", "num_rows"]
    texts = ["the lamp is late today", "my lamp is late", "my invoice was lost"]
    lamp, same, other = (np.array(answer["embedding"]) for answer in run.predict(texts))
    assert lamp.shape == (16,) and np.linalg.norm(lamp) == pytest.approx(1, abs=1e-5)
    assert lamp @ same > lamp @ other


@pytest.mark.slow
def test_a_text_has_one_embedding_whatever_stands_beside_it(run):
    texts = ["the lamp is late", "my", "the parcel was lost today " * 8]
    together = [answer["embedding"] for answer in run.predict(texts)]
    for text, found in zip(texts, together, strict=True):
        assert run.predict(text)[0]["embedding"] == pytest.approx(found, abs=1e-5)


@pytest.mark.slow
def test_evaluate_scores_as_the_fit_did_and_wants_pairs(run, pairs):
    assert run.evaluate(pairs[1::4]) == pytest.approx(run.metrics["test"], abs=1e-6)
    with pytest.raises(DataError, match="cannot tell which column is the text_pair"):
        run.evaluate([{"text": "the lamp is late"}])
    with pytest.raises(DataError, match="row 1: found 2 texts, expected 1: text"):
        run.predict([("the lamp", "my lamp")])


@pytest.mark.slow
def test_the_preset_opens_with_plain_keras_hub(run):
    model = keras_hub.models.TextEmbedder.from_preset(str(run.path / "preset"))
    found = model.encode_text(["the lamp is late", "my lamp"])
    assert [answer["embedding"] for answer in run.predict(["the lamp is late", "my lamp"])] == pytest.approx(
        np.asarray(found), abs=1e-5
    )


@pytest.mark.slow
def test_the_export_answers_the_same(run, tmp_path):
    version = run.export(tmp_path / "saved_models" / "vectors")
    contract = json.loads((version / "assets.extra" / "kft.json").read_text())
    assert contract["task"] == "embed" and contract["inputs"] == ["text"] and contract["largest_difference"] <= 1e-5
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    found = served(text=tf.constant(["the lamp is late"]))
    assert list(found) == ["embedding"]
    assert found["embedding"].numpy()[0] == pytest.approx(run.predict("the lamp is late")[0]["embedding"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("contrastive", ["auto", "triplet"])
def test_triplets_are_learnt(rows, quick, contrastive, tmp_path):
    shares = {"validation": rows[::4], "test": rows[1::4], "allow_leaks": True}
    knobs = {**quick, "epochs": 8, "pooling": "cls", "contrastive": contrastive}
    run = kft.fit(rows, task="embed", out=str(tmp_path / "run"), **shares, **knobs)
    assert run.labels["num_texts"] == 3
    assert run.metrics["test"]["mrr"] > 0.8
    assert len(run.predict("my lamp is late")[0]["embedding"]) == 16


@pytest.mark.slow
def test_scored_pairs_are_learnt(rows, quick, tmp_path):
    scored = [{"a": row["text"], "b": row["text_pair"], "score": 5.0} for row in rows]
    scored += [{"a": row["text"], "b": row["negative"], "score": 1.0} for row in rows]
    knobs = {**quick, "epochs": 12, "text": "a", "text_pair": "b", "test": scored[::5], "allow_leaks": True}
    run = kft.fit(scored, task="embed", validation=0, out=str(tmp_path / "run"), **knobs)
    assert run.labels["contrastive"] == "cosine"
    assert (run.labels["low"], run.labels["high"]) == (1.0, 5.0)
    assert run.metrics["test"]["spearman"] > 0.8


@pytest.mark.slow
def test_minilm_is_a_sentence_encoder_as_it_comes():
    model = encoders.sentence_encoder(presets.find("minilm"), "auto", 128, "float32", seed=0)
    found = np.asarray(model.encode_text(["This is an example sentence", "Each sentence is converted"]))
    # The first numbers of the example on its model card; KerasHub's gelu is the approximate one.
    expected = [[0.0677, 0.0635, 0.0487, 0.0793], [0.0864, 0.1028, 0.0054, 0.0020]]
    np.testing.assert_allclose(found[:, :4], expected, atol=5e-4)
    eats, same, other = np.asarray(
        model.encode_text(["A man eats food.", "A man is eating something.", "The girl plays the violin."])
    )
    assert eats @ same > 0.7 and eats @ other < 0.3


# -- the network ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_padding_and_neighbours_do_not_matter(tiny_preset, pooling, tmp_path):
    model = encoders.sentence_encoder(presets.find(tiny_preset), pooling, 16, "float32", seed=0)
    network = encoders.side_by_side(model, 2)
    ids = np.array([[2, 7, 8, 3]])

    def features(width, prefix):
        padded = np.pad(ids, [(0, 0), (0, width - 4)], constant_values=9)
        mask = (np.arange(width) < 4).astype(np.int32)[None]
        found = {"token_ids": padded, "padding_mask": mask, "segment_ids": padded * 0}
        return {prefix + name: value for name, value in found.items()}

    outputs = network({**features(4, ""), **features(9, "pair_")})
    text, pair = np.asarray(outputs["embedding"]), np.asarray(outputs["text_pair"])
    np.testing.assert_allclose(text, pair, atol=1e-6)
    np.testing.assert_allclose(model(features(6, "")), text, atol=1e-6)
    model.save_to_preset(str(tmp_path))
    again = heads.open_task(str(tmp_path))
    assert again.pooling_mode == pooling
    np.testing.assert_allclose(again(features(5, "")), text, atol=1e-6)


def test_vectors_are_float32_in_any_precision(tiny_preset):
    model = encoders.sentence_encoder(presets.find(tiny_preset), "auto", 16, "mixed_bfloat16", seed=0)
    assert {output.dtype for output in encoders.side_by_side(model, 3).output.values()} == {"float32"}
    assert model.backbone.compute_dtype == "bfloat16"


def test_a_backbone_without_a_mask_has_its_first_token_only(tmp_path):
    backbone = keras_hub.models.FNetBackbone(
        vocabulary_size=9, num_layers=1, hidden_dim=4, intermediate_dim=4, max_sequence_length=8
    )

    class Preset:
        name, backbone_class = "fnet", keras_hub.models.FNetBackbone

        def is_causal(self):
            return False

    assert encoders._pooling(Preset(), backbone, "auto") == "cls"
    with pytest.raises(PresetError, match="FNetBackbone cannot tell padding from text, which pooling='mean' needs"):
        encoders._pooling(Preset(), backbone, "mean")


@pytest.mark.parametrize("is_graph", [False, True])
def test_vectors_by_hand(is_graph):
    function = lambda x: decode.vectors(x, ("a", "b"))  # noqa: E731
    outputs = {"a": tf.constant([[1.0, 2.0]], tf.bfloat16), "b": tf.constant([[3.0, 4.0]], tf.bfloat16)}
    found = (tf.function(function) if is_graph else function)(outputs)
    assert {value.dtype for value in found.values()} == {tf.float32}
    assert {name: value.numpy().tolist() for name, value in found.items()} == {"a": [[1, 2]], "b": [[3, 4]]}


# -- targets -------------------------------------------------------------------------------------------------------


def test_targets_are_equal_where_texts_are():
    table = formats.read(
        [{"text": "A b", "text_pair": "c"}, {"text": "a  B", "text_pair": "d"}, {"text": "d", "text_pair": "c"}]
    )
    ids = embed.targets("multiple_negatives", table, None)["ids"]
    assert ids.shape == (3, 2) and ids.dtype == np.int32
    assert ids[0, 0] == ids[1, 0] and ids[0, 1] == ids[2, 1] and ids[1, 1] == ids[2, 0]
    assert len(np.unique(ids)) == 3


# -- refusals ------------------------------------------------------------------------------------------------------


def test_what_cannot_be_learnt_is_refused(pairs, rows):
    def check(rows, **knobs):
        return kft.check(rows, task="embed", validation=0, **knobs)

    with pytest.raises(DataError, match="cannot tell which column is the text_pair"):
        check([{"text": "a"}, {"text": "b"}])
    with pytest.raises(DataError, match="row 2: the text_pair is missing"):
        check([pairs[0], {"text": "a", "text_pair": None}])
    with pytest.raises(DataError, match="row 2: the negative 'My  Lamp' is the text_pair too"):
        check([rows[0], {"text": "a", "text_pair": "my lamp", "negative": "My  Lamp"}])
    with pytest.raises(DataError, match="all 2 rows have the same text_pair"):
        check([{"text": "a", "text_pair": "c"}, {"text": "b", "text_pair": "C"}])
    with pytest.raises(DataError, match="row 2: the label is 'much'; expected a finite number"):
        check([{**pairs[0], "label": "1"}, {**pairs[1], "label": "much"}])
    with pytest.raises(DataError, match="all 2 numbers are 3"):
        check([{**pair, "label": 3} for pair in pairs[:2]])
    with pytest.raises(RecipeError, match="contrastive=triplet needs a text that does not belong"):
        check(pairs, contrastive="triplet")
    with pytest.raises(RecipeError, match="contrastive=cosine needs a number for each pair"):
        check(pairs, contrastive="cosine")
    with pytest.raises(RecipeError, match="the rows have a number and a negative; expected one of them"):
        check([{**row, "label": i} for i, row in enumerate(rows)])
    with pytest.raises(RecipeError, match="transfer=features leaves nothing to train for task embed"):
        check(pairs, transfer="features")
    with pytest.raises(RecipeError, match="metric: found 'accuracy', which embed does not have"):
        kft.plan(pairs, task="embed", save_best_by="accuracy")
    with pytest.raises(RecipeError, match="pooling is for task embed and fewshot, not for classify"):
        kft.check([{"text": str(i), "label": i % 2} for i in range(20)], pooling="mean")


def test_the_range_of_numbers_is_that_of_train():
    def learnt(*numbers):
        rows = [{"text": f"a{i}", "text_pair": "b", "label": number} for i, number in enumerate(numbers)]
        found = kft.check(rows, task="embed", validation=0).labels
        return found["low"], found["high"]

    assert learnt(0.25, 0.5) == (0, 1)
    assert learnt(0, 5, 2) == (0, 5)
    assert learnt(-1, 1) == (-1, 1)


@pytest.mark.slow
def test_the_plan_counts_every_text_of_a_row(rows, pairs, tiny_preset):
    knobs = {"task": "embed", "preset": tiny_preset, "validation": 0, "precision": "float32"}
    two, three = kft.plan(pairs, **knobs), kft.plan(rows, **knobs)
    assert two.trained == three.trained and two.steps == three.steps == 6
    assert three.memory_mb > two.memory_mb
