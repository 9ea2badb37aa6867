"""Every family of KerasHub text backbones as a classifier: builds, ignores padding, and reopens as it was saved."""

import io
import string

import keras
import keras_hub
import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

import kft
from kft.data import store
from kft.models import heads, presets
from kft.text.tokens import Encoder, encode

SENTENCES = ["the tea was good", "the soup was bad", "my tea was not good", "the same soup again", "no tea, no soup"]
WORDS = sorted({word for sentence in SENTENCES for word in sentence.replace(",", " ,").split()})
ALL_TEXTS = ["the soup was not good, the tea was", "tea"]
MAX_LENGTH = 24
SMALL = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
WITH_POSITIONS = {**SMALL, "max_sequence_length": MAX_LENGTH}
GROUPED = {"num_layers": 2, "num_query_heads": 2, "num_key_value_heads": 1, "hidden_dim": 8, "intermediate_dim": 16}


def word_piece(name):
    return getattr(keras_hub.tokenizers, f"{name}Tokenizer")(
        vocabulary=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *string.ascii_lowercase]
    )


def byte_pair(name, *special):
    letters = ["Ġ", *string.ascii_lowercase, ",", ".", "th", "Ġth"]
    vocabulary = {token: number for number, token in enumerate([*special, *letters])}
    return getattr(keras_hub.tokenizers, f"{name}Tokenizer")(vocabulary=vocabulary, merges=["t h", "Ġ th"])


def sentence_piece(name, unk="<unk>", bos="<s>", eos="</s>", pad=None, symbols=()):
    """A tokenizer of a SentencePiece model that is trained here; special pieces take the first ids, padding id 0."""
    pieces = [("pad", pad), ("unk", unk), ("bos", bos), ("eos", eos)]
    present = [(kind, piece) for kind, piece in pieces if piece]
    ids = {f"{kind}_id": number for number, (kind, _) in enumerate(present)}
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=model,
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
        user_defined_symbols=list(symbols),
        **{"pad_id": -1, "bos_id": -1, "eos_id": -1, **ids},
        **{f"{kind}_piece": piece for kind, piece in present},
    )
    return getattr(keras_hub.tokenizers, f"{name}Tokenizer")(proto=model.getvalue())


ALBERT_PIECES = {"bos": "[CLS]", "eos": "[SEP]", "pad": "<pad>", "symbols": ["[MASK]"]}
FAMILIES = {
    "Bert": (WITH_POSITIONS, lambda: word_piece("Bert")),
    "DistilBert": (WITH_POSITIONS, lambda: word_piece("DistilBert")),
    "Electra": ({**WITH_POSITIONS, "embedding_dim": 8}, lambda: word_piece("Electra")),
    "RoformerV2": ({**SMALL, "head_size": 4}, lambda: word_piece("RoformerV2")),
    "Roberta": (WITH_POSITIONS, lambda: byte_pair("Roberta", "<s>", "<pad>", "</s>", "<mask>")),
    "GPT2": (WITH_POSITIONS, lambda: byte_pair("GPT2", "<|endoftext|>")),
    "OPT": (WITH_POSITIONS, lambda: byte_pair("OPT", "<pad>", "</s>")),
    "Bloom": (SMALL, lambda: byte_pair("Bloom", "<pad>", "<s>", "</s>")),
    "Qwen": (GROUPED, lambda: byte_pair("Qwen", "<|endoftext|>", "<|im_end|>")),
    "Bart": (WITH_POSITIONS, lambda: byte_pair("Bart", "<s>", "<pad>", "</s>")),
    "Albert": ({**WITH_POSITIONS, "embedding_dim": 8}, lambda: sentence_piece("Albert", **ALBERT_PIECES)),
    "FNet": (
        {name: value for name, value in WITH_POSITIONS.items() if name != "num_heads"},
        lambda: sentence_piece("FNet", **ALBERT_PIECES),
    ),
    "DebertaV3": (
        {**WITH_POSITIONS, "bucket_size": 8},
        lambda: sentence_piece("DebertaV3", "[UNK]", "[CLS]", "[SEP]", "[PAD]", ["[MASK]"]),
    ),
    "XLMRoberta": (WITH_POSITIONS, lambda: sentence_piece("XLMRoberta")),
    "Llama": (GROUPED, lambda: sentence_piece("Llama")),
    "Mistral": (GROUPED, lambda: sentence_piece("Mistral")),
    "Gemma": (
        {**GROUPED, "head_dim": 4},
        lambda: sentence_piece("Gemma", bos="<bos>", eos="<eos>", pad="<pad>"),
    ),
    "T5": (SMALL, lambda: sentence_piece("T5", bos=None, pad="<pad>")),
    "XLNet": (SMALL, lambda: sentence_piece("SentencePiece", pad="<pad>", symbols=["<sep>", "<cls>"])),
}


QUICK = {"Bert", "FNet", "Llama", "XLNet"}


@pytest.fixture(params=[pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in FAMILIES])
def family(request):
    return request.param


def save_preset(family, path, **further):
    """A pretrained model of two layers, its weights random, as KerasHub saves one."""
    keras.utils.set_random_seed(0)
    settings, make_tokenizer = FAMILIES[family]
    settings = {**settings, **further}
    tokenizer = make_tokenizer()
    size = {"vocab_size" if family == "Electra" else "vocabulary_size": tokenizer.vocabulary_size()}
    backbone = getattr(keras_hub.models, f"{family}Backbone")(**size, **settings)
    # Keras's initial weights are so small that a model this narrow tells hardly any texts apart.
    backbone.set_weights([3 * weight if weight.ndim > 1 else weight for weight in backbone.get_weights()])
    backbone.save_to_preset(path)
    tokenizer.save_to_preset(path)


def logits(model, texts):
    """`(rows, classes)`, by the way that training and the export take from strings to outputs."""
    features = tf.function(lambda texts: encode(model.preprocessor, [texts]))(tf.constant(texts))
    names = set(model.input)
    return np.asarray(model({name: value for name, value in features.items() if name in names}, training=False))


# KerasHub's T5 says of its attention that it does not support masking.
# Its SentencePiece tokenizers leave the vocabulary file to the garbage collector.
@pytest.mark.filterwarnings("ignore:.*vocabulary.spm:ResourceWarning")
@pytest.mark.filterwarnings("ignore:.*:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:Layer .* does not support masking:UserWarning")
def test_family_builds_ignores_padding_and_reopens_as_saved(family, tmp_path):
    save_preset(family, str(tmp_path / "pretrained"))
    preset = presets.find(str(tmp_path / "pretrained"))
    model = heads.sequence_model(preset, 3, MAX_LENGTH, "float32", seed=1)

    together = logits(model, ALL_TEXTS)
    assert together.shape == (2, 3)
    assert np.abs(together[0] - together[1]).max() > 1e-6
    for row, text in enumerate(ALL_TEXTS):
        np.testing.assert_allclose(logits(model, [text])[0], together[row], atol=1e-5)

    saved = str(tmp_path / "tuned")
    model.save_to_preset(saved)
    np.testing.assert_allclose(logits(heads.open_task(saved), ALL_TEXTS), together, atol=1e-6)
    if hasattr(keras_hub.models, f"{family}TextClassifier"):
        opened = keras_hub.models.TextClassifier.from_preset(saved, compile=False)
        np.testing.assert_allclose(logits(opened, ALL_TEXTS), together, atol=1e-6)
    else:
        assert isinstance(model, heads.SequenceClassifier)


NUM_TEXTS, PADDED = 64, 40


@pytest.mark.filterwarnings("ignore:.*vocabulary.spm:ResourceWarning")
@pytest.mark.filterwarnings("ignore:.*:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:Layer .* does not support masking:UserWarning")
@pytest.mark.slow
@pytest.mark.parametrize("make", [heads.sequence_model, heads.token_model], ids=["rows", "tokens"])
def test_family_answers_a_row_the_same_in_any_batch(family, make, tmp_path):
    has_positions = "max_sequence_length" in FAMILIES[family][0]
    save_preset(family, str(tmp_path / "pretrained"), **({"max_sequence_length": PADDED} if has_positions else {}))
    model = make(presets.find(str(tmp_path / "pretrained")), 3, MAX_LENGTH, "float32", seed=1)
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, 1 + number % 25)) for number in range(NUM_TEXTS)]
    encoder = Encoder(model.preprocessor, 1)
    rows = store.in_memory(encoder([texts]), encoder)

    signature = {name: tf.TensorSpec((None, None), tf.int32) for name in model.input}
    graph = tf.function(lambda features: model(features, training=False), input_signature=[signature])

    def outputs(numbers, length):
        features = rows.batch(np.asarray(numbers), length, list(model.input))
        found = graph({name: tf.constant(value, tf.int32) for name, value in features.items()}).numpy()
        lengths = rows.lengths[numbers]
        return [row[:n] if make is heads.token_model else row for row, n in zip(found, lengths, strict=True)]

    alone = [outputs([number], int(rows.lengths[number]))[0] for number in range(NUM_TEXTS)]
    assert len({row.tobytes() for row in alone}) > NUM_TEXTS // 2
    order = random.permutation(NUM_TEXTS)
    wider = [PADDED] if encoder.has_mask else []  # else the padding is read as text, and rows are all of one length
    for length in [int(rows.lengths.max()), *wider]:
        for part in [np.arange(32), np.arange(32, 64), order[:32], order[32:]]:
            for number, row in zip(part, outputs(part, length), strict=True):
                np.testing.assert_allclose(row, alone[number], atol=1e-5, err_msg=texts[number])


ENCODERS = ["Bert", "DistilBert", "RoformerV2", "Roberta", "Albert", "FNet", "DebertaV3", "XLMRoberta"]
DECODERS = ["GPT2", "OPT", "Bloom", "Qwen", "Llama", "Mistral", "Gemma"]


@pytest.mark.filterwarnings("ignore:.*vocabulary.spm:ResourceWarning")
@pytest.mark.filterwarnings("ignore:.*:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
@pytest.mark.parametrize("family", ENCODERS + DECODERS)
def test_family_learns_from_plain_text(family, tmp_path):
    save_preset(family, str(tmp_path / "pretrained"))
    rows = [{"text": f"{text}. {text}, {word}"} for text in SENTENCES for word in WORDS[:4]]
    whole = {"whole_word_mask": family in ENCODERS}
    knobs = {"preset": str(tmp_path / "pretrained"), "max_length": 16, "validation": 0.2, "max_steps": 2, "quiet": True}
    run = kft.fit(rows, task="pretrain", out=str(tmp_path / "run"), **whole, **knobs)
    assert 1 < run.metrics["validation"]["perplexity"] < 1000
    tokenizer = run.model.preprocessor.tokenizer
    asked = tokenizer.id_to_token(tokenizer.mask_token_id) if family in ENCODERS else WORDS[0]
    answer = run.predict(f"the {asked} was good")[0]
    assert answer["fills"][0]["token"] if family in ENCODERS else answer["perplexity"] > 1
