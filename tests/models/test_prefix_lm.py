"""An encoder that writes: what each token sees, and that its responses are those of whole passes."""

import json

import keras
import numpy as np
import pytest

import kft
from kft.errors import PresetError, RecipeError
from kft.models import generators, presets

SETTINGS = {"max_new_tokens": 6, "decoding": "greedy", "num_beams": 3, "top_k": 5, "top_p": 0.9, "temperature": 1.0,
            "stop": [], "seed": 0}  # fmt: skip
PROMPTS = ["the parcel is late", "my chair", "the invoice was wrong again today", ""]


@pytest.fixture(scope="module")
def model(tiny_preset):
    made = generators.generator(presets.find(tiny_preset), SETTINGS, 32, "float32", 0)
    head = made.masked_lm_head
    head.set_weights(
        [w + 0.5 * np.random.default_rng(i).normal(size=w.shape) for i, w in enumerate(head.get_weights())]
    )
    return made


def logits(model, ids, segments, length=None):
    mask = [1] * len(ids) if length is None else [1] * length + [0] * (len(ids) - length)
    features = {"token_ids": ids, "segment_ids": segments, "padding_mask": mask}
    return keras.ops.convert_to_numpy(model({name: np.array([row], "int32") for name, row in features.items()}))[0]


def test_the_prompt_is_read_in_both_directions_and_the_response_from_left_to_right(model):
    ids, segments = [2, 7, 8, 3, 9, 10, 11], [0, 0, 0, 0, 1, 1, 1]
    whole = logits(model, ids, segments)
    for place in range(len(ids)):
        other = [*ids]
        other[place] = 20
        changed = np.abs(logits(model, other, segments) - whole).max(axis=-1) > 1e-5
        expected = [True] * 7 if place < 4 else [at >= place for at in range(7)]
        assert changed.tolist() == expected, place


def test_padding_changes_nothing(model):
    ids, segments = [2, 7, 8, 3, 9], [0, 0, 0, 0, 1]
    padded = logits(model, [*ids, 0, 0], [*segments, 0, 0], length=5)
    np.testing.assert_allclose(padded[:5], logits(model, ids, segments), atol=1e-5)


def by_whole_passes(model, prompt):
    """The likeliest token after each, by the network alone, in a row by itself and without room after it."""
    tokenizer = model.preprocessor.tokenizer
    read = np.asarray(tokenizer(prompt)).tolist() if prompt else []
    ids = [tokenizer.start_token_id, *read, tokenizer.end_token_id]
    begins = len(ids)
    for _ in range(SETTINGS["max_new_tokens"]):
        found = logits(model, ids, [0] * begins + [1] * (len(ids) - begins))
        ids.append(int(found[-1].argmax()))
        if ids[-1] == tokenizer.end_token_id:
            break
    special = set(tokenizer.special_token_ids)
    return tokenizer.detokenize([id for id in ids[begins:] if id not in special])


@pytest.mark.parametrize("decoding", ["greedy", "beam"])
def test_responses_are_those_of_whole_passes(model, decoding):
    settings = {**SETTINGS, "decoding": decoding, "num_beams": 2}
    found = generators.respond(model, settings)([PROMPTS])["text"]
    texts = [text.decode() for text in np.asarray(found).tolist()]
    alone = [generators.respond(model, settings)([[prompt]])["text"] for prompt in PROMPTS]
    assert texts == [np.asarray(text).tolist()[0].decode() for text in alone]
    if decoding == "greedy":
        assert texts == [by_whole_passes(model, prompt) for prompt in PROMPTS]
        assert len(set(texts)) > 1 and any(texts)


@pytest.mark.parametrize("decoding", generators.DRAWN)
def test_drawn_responses_begin_anew_with_their_seed(model, decoding):
    settings = {**SETTINGS, "decoding": decoding, "temperature": 2.0}
    first, second, other = (
        np.asarray(generators.respond(model, {**settings, "seed": seed})([PROMPTS])["text"]).tolist()
        for seed in (1, 1, 2)
    )
    assert first == second != other


def test_responses_are_learnt_saved_and_opened(quick, tiny_preset, tmp_path):
    rows = [{"prompt": "the parcel", "response": "is late"}, {"prompt": "the lamp", "response": "was not good"}]
    knobs = {**quick, "preset": tiny_preset, "max_new_tokens": 6, "learning_rate": 1e-2}
    run = kft.fit(rows * 40, task="generate", validation=rows, epochs=6, out=str(tmp_path / "run"), **knobs)
    texts = [answer["text"] for answer in run.predict(["the parcel", "the lamp"])]
    assert texts == ["is late", "was not good"] and run.metrics["validation"]["exact_match"] == 1.0
    again = kft.load(run.path)
    assert [answer["text"] for answer in again.predict(["the parcel", "the lamp"])] == texts
    assert again.evaluate(rows)["loss"] == pytest.approx(run.metrics["validation"]["loss"], abs=1e-5)


def test_the_frozen_part_is_kept_with_its_mask(quick, tiny_preset, tmp_path):
    rows = [
        {"prompt": f"the {noun}", "response": f"is {word}"} for noun in ("lamp", "chair") for word in ("late", "lost")
    ]
    knobs = {**quick, "preset": tiny_preset, "max_new_tokens": 6, "max_steps": 3, "transfer": "last:1", "validation": 0}
    losses = []
    for is_kept in (True, False):
        out = tmp_path / str(is_kept)
        run = kft.fit(rows * 4, task="generate", cache_features=is_kept, out=str(out), **knobs)
        lines = [json.loads(line) for line in (run.path / "history.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines if line["kind"] == "step"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and len(losses[0]) == 3


def test_other_encoders_are_refused_by_name(tmp_path):
    import keras_hub

    size = {"num_layers": 1, "num_heads": 1, "hidden_dim": 8, "intermediate_dim": 8, "max_sequence_length": 64}
    keras_hub.models.DistilBertBackbone(vocabulary_size=6, **size).save_to_preset(str(tmp_path))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]
    keras_hub.tokenizers.DistilBertTokenizer(vocabulary=pieces).save_to_preset(str(tmp_path))
    rows = [{"prompt": "a", "response": "a"}] * 4
    with pytest.raises(PresetError, match="is a DistilBertBackbone, which KerasHub has no generation for.*or a BERT"):
        kft.plan(rows, task="generate", preset=str(tmp_path), validation=0)


def test_responses_longer_than_its_positions_are_refused(tiny_preset):
    rows = [{"prompt": "a", "response": "a"}] * 4
    with pytest.raises(RecipeError, match="max_new_tokens: found 60, but .* has 64 positions"):
        kft.plan(rows, task="generate", preset=tiny_preset, max_new_tokens=60, validation=0)


@pytest.mark.slow
def test_an_export_responds_as_predict_does(quick, tiny_preset, tmp_path):
    rows = [{"prompt": "the parcel", "response": "is late"}, {"prompt": "the lamp", "response": "was not good"}]
    knobs = {**quick, "preset": tiny_preset, "max_new_tokens": 6, "max_steps": 4}
    run = kft.fit(rows * 10, task="generate", validation=0, out=str(tmp_path / "run"), **knobs)
    assert (run.export(tmp_path / "model") / "saved_model.pb").is_file()
