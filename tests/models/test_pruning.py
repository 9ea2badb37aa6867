"""A preset with the pieces that some rows need: it gives those rows the same tokens and the same outputs."""

import io
import json
import string

import keras
import keras_hub
import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

import kft
from kft.errors import PresetError, RecipeError
from kft.models import original_tokenizers, pruning
from kft.text import rules

TEXTS = ["the tea was good", "the soup was bad", "my tea was not good", "the same soup again", "no tea, no soup"]
OTHERS = ["a parcel was late", "an invoice, a refund", "lamps and chairs are delivered again and again"]
SMALL = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16, "max_sequence_length": 32}


def word_piece():
    words = sorted({word for text in [*TEXTS, *OTHERS] for word in text.replace(",", "").split()})
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "go",
        "##od",
        "goo",
        "ag",
        *words,
        *string.ascii_lowercase,
        ",",
    ]
    return keras_hub.tokenizers.BertTokenizer(vocabulary=list(dict.fromkeys(pieces)), lowercase=True)


def byte_pair(name="GPT2", *special):
    merges = ["t h", "th e", "Ġ the", "Ġ t", "Ġt e", "Ġte a", "o u", "ou p", "s oup", "Ġ soup", "a n", "Ġ an", "i n"]
    results = ["".join(merge.split()) for merge in merges]
    pieces = [*(special or ["<|endoftext|>"]), "Ġ", *string.ascii_lowercase, ",", ".", *results]
    tokenizer = getattr(keras_hub.tokenizers, f"{name}Tokenizer")(
        vocabulary={piece: number for number, piece in enumerate(pieces)}, merges=merges
    )
    return original_tokenizers.of_keras_hub(tokenizer)


def unigram(name, model_type="unigram", **given):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*TEXTS, *OTHERS]),
        model_writer=model,
        model_type=model_type,
        vocab_size=90,
        hard_vocab_limit=False,
        minloglevel=2,
        **given,
    )
    return getattr(keras_hub.tokenizers, f"{name}Tokenizer")(proto=model.getvalue())


ALBERT = {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3, "pad_piece": "<pad>", "bos_piece": "[CLS]",
          "eos_piece": "[SEP]", "user_defined_symbols": ["[MASK]"]}  # fmt: skip
DEBERTA = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]", "bos_piece": "[CLS]",
           "eos_piece": "[SEP]", "unk_piece": "[UNK]"}  # fmt: skip
KINDS = {
    "Bert": word_piece,
    "GPT2": byte_pair,
    "Roberta": lambda: byte_pair("Roberta", "<s>", "<pad>", "</s>", "<mask>"),
    "XLMRoberta": lambda: unigram("XLMRoberta", unk_id=0, bos_id=1, eos_id=2),
    "Albert": lambda: unigram("Albert", **ALBERT),
    "DebertaV3": lambda: unigram("DebertaV3", **DEBERTA),
    "T5": lambda: unigram("T5", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, pad_piece="<pad>"),
}
FURTHER = {"Albert": {"embedding_dim": 8}, "DebertaV3": {"bucket_size": 8}}


def tokens(tokenizer, texts):
    return tf.function(tokenizer.tokenize, autograph=False)(tf.constant(texts)).to_list()


@pytest.mark.filterwarnings("ignore:Layer 'transformer_encoder_layer_0' looks like it has unbuilt state")
@pytest.mark.filterwarnings("ignore:Layer 'self_attention'")
@pytest.mark.filterwarnings("ignore:Layer 'cross_attention'")
@pytest.mark.parametrize("name", KINDS)
def test_the_texts_have_the_same_tokens_and_outputs(name):
    tokenizer = KINDS[name]()
    settings = {key: value for key, value in SMALL.items() if name != "T5" or key != "max_sequence_length"}
    backbone = getattr(keras_hub.models, f"{name}Backbone")(
        vocabulary_size=tokenizer.vocabulary_size() + 3, **settings, **FURTHER.get(name, {})
    )
    unknown = [] if name in ("GPT2", "Roberta") else ["the tea \N{SNOWMAN} was goodt"]
    texts = [*TEXTS, *unknown, "teas"]
    before = tokens(tokenizer, texts)
    made, order = pruning.pruned_tokenizer(
        tokenizer, {each for row in before for each in row}, lambda: " ".join(texts).split()
    )
    assert len(order) == made.vocabulary_size() < tokenizer.vocabulary_size()
    after = tokens(made, texts)
    assert [[order[each] for each in row] for row in after] == before
    assert {tokenizer.id_to_token(i) for i in tokenizer.special_token_ids} == {
        made.id_to_token(i) for i in made.special_token_ids
    }
    assert [order[i] for i in made.special_token_ids] == list(tokenizer.special_token_ids)
    cut = pruning.pruned_backbone(backbone, order)
    assert cut.count_params() < backbone.count_params()

    def outputs(model, ids):
        inputs = {key: np.zeros((1, len(ids)), "int32") for key in model.input}
        inputs |= {key: np.array([ids]) for key in inputs if key.endswith("token_ids")}
        inputs |= {key: np.ones((1, len(ids)), "int32") for key in inputs if key.endswith("padding_mask")}
        return keras.tree.flatten(model(inputs))

    for new, old in zip(outputs(cut, after[0]), outputs(backbone, before[0]), strict=True):
        assert float(keras.ops.max(keras.ops.abs(new - old))) == 0.0


def test_the_ids_of_rules_are_those_of_the_new_pieces():
    tokenizer = byte_pair("Roberta", "<s>", "<pad>", "</s>", "<mask>")
    made, order = pruning.pruned_tokenizer(tokenizer, {5, 6}, lambda: [])
    assert {added.text for added in rules.of(made).added} == {added.text for added in rules.of(tokenizer).added}
    assert all(made.vocabulary[added.text] == added.id for added in rules.of(made).added)
    assert tokens(made, ["a<mask>b"])[0][1] == made.vocabulary["<mask>"]


def test_what_a_word_tried_before_it_was_unknown_stays_tried():
    tokenizer = keras_hub.tokenizers.BertTokenizer(
        vocabulary=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ab", "abc", "##cd", "x"], lowercase=True
    )
    assert tokens(tokenizer, ["abcd"]) == [[1]]  # abc, and nothing for d
    made, order = pruning.pruned_tokenizer(tokenizer, {1, 5, 7}, lambda: ["abcd"])
    assert [order[i] for i in tokens(made, ["abcd"])[0]] == [1]


def test_merges_of_sentence_piece_are_refused():
    with pytest.raises(PresetError, match="no unigram model"):
        pruning.pruned_tokenizer(unigram("Llama", "bpe", bos_id=1, eos_id=2, unk_id=0), {5}, lambda: [])


def test_a_fit_keeps_the_pieces_of_its_rows(message_rows, quick, tiny_bert, tmp_path):
    further = [f"word{number}" for number in range(200)]
    preset = tiny_bert(tmp_path / "preset", *further)
    texts = tmp_path / "texts.txt"
    texts.write_text("word7 is late\nword9\n")
    knobs = {**quick, "preset": preset, "text": "text", "label": "topic", "max_steps": 2, "seed": 3}
    run = kft.fit(message_rows, prune_vocabulary=str(texts), out=str(tmp_path / "run"), **knobs)
    (note,) = (note for note in run.manifest["notes"] if note.startswith("prune_vocabulary"))
    assert "parameters in place of" in note
    pieces = run.model.preprocessor.tokenizer.get_vocabulary()
    assert {"word7", "word9"} <= set(pieces) and "word8" not in pieces and len(pieces) < len(further)
    assert kft.load(run.path).predict("word8")[0]["label"]
    saved = json.loads((run.path / "preset" / "config.json").read_text())
    assert saved["config"]["vocabulary_size"] == len(pieces)
    knobs.pop("quiet")
    forecast = kft.plan(message_rows, prune_vocabulary=True, **knobs)
    assert any(note.startswith("prune_vocabulary") for note in forecast.notes)
    rates = [kft.plan(message_rows, prune_vocabulary=p, **{**knobs, "learning_rate": "auto"}) for p in (True, False)]
    assert rates[0].learning_rate == rates[1].learning_rate


@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        ({"prune_vocabulary": "nowhere.txt"}, "where no file is"),
        ({"prune_vocabulary": True, "transfer": "lora:2"}, "what differs from the whole preset"),
        ({"prune_vocabulary": True, "preset": "scratch:bert"}, "is not used with preset=scratch:bert"),
    ],
)
def test_what_cannot_be_pruned_is_refused(message_rows, quick, tmp_path, knobs, says):
    with pytest.raises(RecipeError, match=says):
        kft.fit(message_rows, text="text", label="topic", out=str(tmp_path / "run"), **{**quick, **knobs})
    assert not (tmp_path / "run").exists()


def test_earlier_tasks_are_refused(message_rows, quick, topic_run, tmp_path):
    knobs = {**quick, "preset": str(topic_run.path), "text": "text", "label": "urgency", "max_steps": 1}
    with pytest.raises(RecipeError, match="with earlier tasks, whose texts need pieces of their own"):
        kft.fit(message_rows, prune_vocabulary=True, out=str(tmp_path / "run"), **knobs)
    knobs["preset"] = str(topic_run.path / "preset")
    assert kft.fit(message_rows, prune_vocabulary=True, out=str(tmp_path / "run"), **knobs).path.is_dir()


@pytest.mark.slow
def test_a_pruned_run_is_exported_through_its_gates(message_rows, quick, tiny_bert, tmp_path):
    preset = tiny_bert(tmp_path / "preset", *(f"word{number}" for number in range(50)))
    knobs = {**quick, "preset": preset, "text": "text", "label": "topic", "max_steps": 2}
    run = kft.fit(message_rows, prune_vocabulary=True, out=str(tmp_path / "run"), **knobs)
    assert (run.export(tmp_path / "model") / "saved_model.pb").is_file()


@pytest.mark.parametrize("is_tied", [True, False])
def test_output_layers_have_the_logits_of_the_kept_pieces(is_tied):
    size = {"num_layers": 1, "num_query_heads": 2, "num_key_value_heads": 1, "hidden_dim": 8, "intermediate_dim": 16}
    backbone = keras_hub.models.LlamaBackbone(vocabulary_size=20, tie_word_embeddings=is_tied, **size)
    order = np.array([0, 3, 7, 19])
    cut = pruning.pruned_backbone(backbone, order)
    logits = []
    for model, ids in ((backbone, order), (cut, np.arange(4))):
        inputs = {"token_ids": ids[None], "padding_mask": np.ones((1, 4), "int32")}
        logits.append(np.asarray(model.token_embedding(model(inputs), reverse=True)))
    assert logits[1].shape[-1] == 4
    np.testing.assert_allclose(logits[1], logits[0][..., order], atol=1e-6)


def test_a_decoder_that_is_pruned_responds_with_the_pieces_that_it_has(tmp_path, quick):
    letters = keras_hub.tokenizers.GPT2Tokenizer(
        vocabulary={piece: i for i, piece in enumerate(["<|endoftext|>", *_bytes(), "th", "Ġth", "Ġthe", "at"])},
        merges=["t h", "Ġ th", "Ġth e", "a t"],
    )
    size = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16, "max_sequence_length": 64}
    keras_hub.models.GPT2Backbone(vocabulary_size=letters.vocabulary_size(), **size).save_to_preset(str(tmp_path))
    letters.save_to_preset(str(tmp_path))
    rows = [{"prompt": "is the tea hot", "response": "the tea is"}, {"prompt": "who", "response": "the soup"}] * 4
    knobs = {**quick, "preset": str(tmp_path), "max_new_tokens": 4, "max_steps": 1, "validation": 0}
    run = kft.fit(rows, task="generate", prune_vocabulary=True, out=str(tmp_path / "run"), **knobs)
    tokenizer = run.model.preprocessor.tokenizer
    assert "Ġthe" in tokenizer.vocabulary and "at" not in tokenizer.vocabulary
    assert len(tokenizer.vocabulary) == letters.vocabulary_size() - 1
    assert isinstance(run.predict("who")[0]["text"], str)


def _bytes():
    """What byte-level BPE writes for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (chr(256 + number) for number in range(256))
    return [chr(byte) if byte in plain else next(others) for byte in range(256)]
