"""Hugging Face directories: what KerasHub's converters leave out is done right, or refused with the setting."""

import json

import keras_hub
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from kft.data import tokenise
from kft.errors import PresetError
from kft.models import heads, presets, saving
from kft.text import rules

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cafe", "the", "tea", "T", "##ea"]
SIZES = {
    "vocab_size": len(WORDS),
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "hidden_size": 8,
    "intermediate_size": 16,
    "max_position_embeddings": 12,
    "type_vocab_size": 2,
}


def weights(prefix="", *, pooler=True, kinds=2, positions=12):
    """Those of a BERT of one layer, by Hugging Face's names."""
    draw = np.random.default_rng(0)
    shapes = {
        "embeddings.word_embeddings.weight": (len(WORDS), 8),
        "embeddings.position_embeddings.weight": (positions, 8),
        "embeddings.token_type_embeddings.weight": (kinds, 8),
    }
    for name in ("embeddings", "encoder.layer.0.attention.output", "encoder.layer.0.output"):
        shapes |= {f"{name}.LayerNorm.weight": (8,), f"{name}.LayerNorm.bias": (8,)}
    for name in ("self.query", "self.key", "self.value", "output.dense"):
        shapes |= {f"encoder.layer.0.attention.{name}.weight": (8, 8), f"encoder.layer.0.attention.{name}.bias": (8,)}
    shapes |= {"encoder.layer.0.intermediate.dense.weight": (16, 8), "encoder.layer.0.intermediate.dense.bias": (16,)}
    shapes |= {"encoder.layer.0.output.dense.weight": (8, 16), "encoder.layer.0.output.dense.bias": (8,)}
    if pooler:
        shapes |= {"pooler.dense.weight": (8, 8), "pooler.dense.bias": (8,)}
    return {prefix + name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def write(tmp_path):
    """(Settings of config.json, of tokenizer_config.json, weights) to a directory of BERT."""

    def make(config=None, tokenizer=None, numbers=None):
        content = {"model_type": "bert", **SIZES, **(config or {})}
        (tmp_path / "config.json").write_text(json.dumps(content))
        given = {"do_lower_case": True} if tokenizer is None else tokenizer
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(given))
        (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
        safetensors.numpy.save_file(numbers or weights(), str(tmp_path / "model.safetensors"))
        return tmp_path

    return make


def refusal(path):
    with pytest.raises(PresetError) as refused:
        preset = presets.find(str(path))
        preset.tokenizer()
        preset.backbone()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def names(tokenizer, text):
    return [tokenizer.id_to_token(number) for number in tokenizer.tokenize(tf.constant([text])).to_list()[0]]


def test_a_directory_is_read_as_it_says(write):
    preset = presets.find(str(write({"hidden_dropout_prob": 0.25})))
    assert names(preset.tokenizer(), "the Café [SEP] Tea") == ["the", "cafe", "[SEP]", "tea"]
    backbone = preset.backbone()
    assert backbone.dropout == 0.25  # KerasHub's converter takes 0.1
    assert isinstance(backbone, keras_hub.models.BertBackbone)


def test_a_cased_one_keeps_case_and_accents(write):
    tokenizer = presets.find(str(write(tokenizer={"do_lower_case": False}))).tokenizer()
    assert names(tokenizer, "cafe Café Tea") == ["cafe", "[UNK]", "T", "##ea"]


def test_accents_and_chinese_characters_have_settings_of_their_own(write):
    path = write(tokenizer={"do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": False})
    assert rules.of(presets.find(str(path)).tokenizer()).normalizers == ("clean", "lower")


def test_case_that_no_file_tells_is_not_guessed(write):
    message = refusal(write(tokenizer={}))
    assert "tokenizer_config.json: do_lower_case: found None, expected true or false" in message
    assert "true} for an uncased model" in message


SETTINGS = {
    "hidden_act": "relu",
    "layer_norm_eps": 1e-5,
    "position_embedding_type": "relative_key",
    "type_vocab_size": 1,
    "is_decoder": True,
}


@pytest.mark.parametrize("name", SETTINGS)
def test_what_keras_hub_would_compute_otherwise_is_refused(write, name):
    message = refusal(write({name: SETTINGS[name]}))
    assert f"config.json: {name}: found {SETTINGS[name]!r}, expected " in message
    assert "Choose another preset." in message


OTHERS = [
    ("roberta", {"type_vocab_size": 1}, "layer_norm_eps: found 1e-12 (it is not there"),
    ("gpt2", {"activation_function": "relu"}, "activation_function: found 'relu'"),
    ("gpt2", {"n_embd": 8, "n_inner": 16}, "n_inner: found 16, expected None or 32"),
    ("llama", {"attention_bias": True}, "attention_bias: found True"),
    ("llama", {"hidden_size": 8, "num_attention_heads": 2, "head_dim": 8}, "head_dim: found 8, expected 4"),
    ("mistral", {"rope_scaling": {"type": "linear", "factor": 2}}, "rope_scaling: found 'linear'"),
    ("qwen2", {"use_sliding_window": True}, "use_sliding_window: found True"),
    ("gemma", {"rope_theta": 1e6}, "rope_theta: found 1000000.0"),
    ("bart", {"encoder_layers": 2, "decoder_layers": 4}, "decoder_layers: found 4, expected 2"),
]


@pytest.mark.parametrize(("model_type", "config", "expected"), OTHERS)
def test_so_is_it_of_other_types(tmp_path, model_type, config, expected):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, **config}))
    assert expected in refusal(tmp_path)


def test_missing_pooler_is_told(write):
    assert "has no pooler.dense.weight" in refusal(write(numbers=weights(pooler=False)))


def test_pickled_weights_are_told(write):
    path = write()
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    assert "found pytorch_model.bin, expected model.safetensors. Write it with transformers" in refusal(path)


def test_pointers_of_git_lfs_are_told(write):
    path = write()
    (path / "vocab.txt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "vocab.txt: found a pointer of Git LFS" in refusal(path)


def test_weights_that_are_not_finite_are_refused(write):
    numbers = weights()
    numbers["encoder.layer.0.output.dense.bias"][0] = np.nan
    assert "numbers that are not finite" in refusal(write(numbers=numbers))


def test_vocabulary_larger_than_the_embedding_is_refused(write):
    message = refusal(write({"vocab_size": len(WORDS) - 2}))
    assert f"its tokenizer has {len(WORDS)} pieces, its config.json {len(WORDS) - 2} rows" in message


def test_shards_elsewhere_are_refused(write):
    path = write()
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../b.safetensors"}}))
    assert "expected the bare name of a file" in refusal(path)


def pipeline(**given):
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers

    library = tokenizers.Tokenizer(
        models.WordPiece({token: number for number, token in enumerate(WORDS)}, unk_token="[UNK]")
    )
    library.normalizer = normalizers.BertNormalizer(**given)
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return json.loads(library.to_str())


def test_tokenizer_json_alone_is_enough(write):
    path = write(tokenizer={})
    (path / "vocab.txt").unlink()
    (path / "tokenizer.json").write_text(json.dumps(pipeline(lowercase=False)))
    assert names(presets.find(str(path)).tokenizer(), "cafe Tea") == ["cafe", "T", "##ea"]


def test_files_that_contradict_each_other_are_refused(write):
    path = write(tokenizer={"do_lower_case": True})
    (path / "tokenizer.json").write_text(json.dumps(pipeline(lowercase=False)))
    message = refusal(path)
    assert "tokenizer_config.json has do_lower_case: True, tokenizer.json has lowercase: False" in message


CHANGES = [
    ({"normalizer": {"type": "Lowercase"}}, "normalizer: found ['Lowercase'], expected BertNormalizer"),
    ({"pre_tokenizer": {"type": "Whitespace"}}, "pre_tokenizer: found ['Whitespace'], expected BertPreTokenizer"),
    (
        {"added_tokens": [{"id": 5, "content": "cafe", "special": False, "normalized": True}]},
        "added_tokens 'cafe': normalized: found True, expected false",
    ),
    (
        {"added_tokens": [{"id": 5, "content": "cafe", "special": True, "single_word": True}]},
        "added_tokens 'cafe': single_word: found True, expected false",
    ),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES, ids=lambda value: "")
def test_steps_that_cannot_be_done_are_refused(write, change, expected):
    path = write(tokenizer={})
    (path / "tokenizer.json").write_text(json.dumps({**pipeline(lowercase=True), **change}))
    assert expected in refusal(path)


def test_the_token_type_of_roberta_is_added_to_its_positions(tmp_path):
    """Hugging Face adds it to every token; KerasHub's RoBERTa has no place for it."""
    config = {
        "model_type": "roberta",
        **SIZES,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "hidden_dropout_prob": 0.1,
    }
    (tmp_path / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 14}))
    numbers = weights("roberta.", pooler=False, kinds=1, positions=14)
    safetensors.numpy.save_file(numbers, str(tmp_path / "model.safetensors"))
    backbone = presets.Preset("here", str(tmp_path), keras_hub.models.RobertaBackbone).backbone()
    found = np.asarray(backbone.embeddings.position_embedding.position_embeddings)
    expected = numbers["roberta.embeddings.position_embeddings.weight"][2:]
    expected = expected + numbers["roberta.embeddings.token_type_embeddings.weight"][0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.slow
def test_a_saved_task_reads_texts_alike_and_opens_with_plain_keras_hub(write, tmp_path):
    model = heads.sequence_model(presets.find(str(write())), 2, 8, "float32", seed=0)
    expected = names(model.preprocessor.tokenizer, "the\u00a0Café\u00ad tea")
    assert expected == ["the", "cafe", "tea"]
    saving.save_task(model, tmp_path / "saved")
    again = heads.open_task(str(tmp_path / "saved"))
    assert names(again.preprocessor.tokenizer, "the\u00a0Café\u00ad tea") == expected
    assert names(presets.find(str(tmp_path / "saved")).tokenizer(), "the\u00a0Café\u00ad tea") == expected
    plain = keras_hub.models.TextClassifier.from_preset(str(tmp_path / "saved"), compile=False)
    assert rules.of(plain.preprocessor.tokenizer) is None
    ids = tf.function(plain.preprocessor.tokenizer.tokenize)(tf.constant(["the Café tea"])).to_list()[0]
    assert [WORDS[number] for number in ids] == ["the", "cafe", "tea"]


def test_what_a_text_is_read_by_is_part_of_the_key_of_its_tokens(write):
    preset = presets.find(str(write()))
    preprocessor = heads.sequence_model(preset, 2, 8, "float32", seed=0).preprocessor
    before = tokenise.fingerprint(preprocessor)
    assert before == tokenise.fingerprint(preprocessor)
    other = rules.attach(type(preprocessor.tokenizer)(vocabulary=WORDS, lowercase=True), rules.Rules())
    preprocessor.tokenizer = other
    assert before != tokenise.fingerprint(preprocessor)


def test_a_preset_without_rules_reads_texts_as_keras_hub(topic_run):
    assert rules.of(topic_run.model.preprocessor.tokenizer) is None


def test_minilm_knows_words_with_accents():
    tokenizer = presets.find("minilm").tokenizer()
    assert names(tokenizer, "naïve café Zürich") == ["naive", "cafe", "zurich"]
