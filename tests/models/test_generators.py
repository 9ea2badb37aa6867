"""Every family of KerasHub text generators responds as its network says, whatever stands beside a prompt."""

import io

import keras
import keras_hub
import numpy as np
import pytest
import sentencepiece

from kft.errors import PresetError, RecipeError
from kft.models import generators, heads, presets
from kft.text import generation

PROMPTS = ["tea", "is it the tea or is it not the tea?", "", "soup, please"]
NUM_NEW, MAX_LENGTH = 6, 48
SETTINGS = {
    **{"max_new_tokens": NUM_NEW, "decoding": "greedy", "num_beams": 3, "top_k": 5, "top_p": 0.9},
    **{"temperature": 1.0, "stop": [], "seed": 0},
}
SMALL = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 32}
WITH_POSITIONS = {**SMALL, "max_sequence_length": 96}
GROUPED = {"num_layers": 2, "num_query_heads": 2, "num_key_value_heads": 1, "hidden_dim": 16, "intermediate_dim": 32}


def byte_pair(name, *special):
    """A tokenizer that knows every byte, and `th`."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (chr(256 + number) for number in range(256))
    letters = [chr(byte) if byte in plain else next(others) for byte in range(256)]
    vocabulary = {token: number for number, token in enumerate([*letters, "th", *special])}
    return getattr(keras_hub.tokenizers, f"{name}Tokenizer")(vocabulary=vocabulary, merges=["t h"])


def sentence_piece(name, bos="<s>", eos="</s>", pad=None):
    pieces = [("pad", pad), ("unk", "<unk>"), ("bos", bos), ("eos", eos)]
    present = [(kind, piece) for kind, piece in pieces if piece]
    ids = {f"{kind}_id": number for number, (kind, _) in enumerate(present)}
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the tea was good, and so was the soup", "is it User: Assistant: System: or not?"]),
        model_writer=model,
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
        **{**{f"{kind}_id": -1 for kind, _ in pieces}, **ids},
        **{f"{kind}_piece": piece for kind, piece in present},
    )
    return getattr(keras_hub.tokenizers, f"{name}Tokenizer")(proto=model.getvalue())


FAMILIES = {
    "GPT2": (WITH_POSITIONS, lambda: byte_pair("GPT2", "<|endoftext|>")),
    "Bart": (WITH_POSITIONS, lambda: byte_pair("Bart", "<s>", "<pad>", "</s>")),
    "OPT": (WITH_POSITIONS, lambda: byte_pair("OPT", "<pad>", "</s>")),
    "Bloom": (SMALL, lambda: byte_pair("Bloom", "<pad>", "<s>", "</s>")),
    "Qwen": (GROUPED, lambda: byte_pair("Qwen", "<|endoftext|>", "<|im_end|>")),
    "Llama": (GROUPED, lambda: sentence_piece("Llama")),
    "Mistral": (GROUPED, lambda: sentence_piece("Mistral")),
    "Gemma": ({**GROUPED, "head_dim": 8}, lambda: sentence_piece("Gemma", "<bos>", "<eos>", "<pad>")),
    "T5": (SMALL, lambda: sentence_piece("T5", bos=None, pad="<pad>")),
}
QUICK = {"GPT2", "Bart"}


def save_preset(family, path):
    """A pretrained model of two layers, its weights random, as KerasHub saves one."""
    keras.utils.set_random_seed(0)
    settings, make_tokenizer = FAMILIES[family]
    tokenizer = make_tokenizer()
    backbone_class = getattr(keras_hub.models, f"{family}Backbone")
    backbone = backbone_class(vocabulary_size=tokenizer.vocabulary_size(), **settings)
    backbone.set_weights([10 * weight if weight.ndim > 1 else weight for weight in backbone.get_weights()])
    backbone.save_to_preset(path)
    tokenizer.save_to_preset(path)
    return presets.find(path)


def greedy(model, prompt):
    """The likeliest token after another, by whole passes through the network."""
    network = keras.Model(model.input, model.output)
    ends = generators.end_ids(model.preprocessor.tokenizer)
    traced = generation.traced(lambda texts: generation.asked(model.preprocessor, texts, NUM_NEW, MAX_LENGTH, ends))
    asked = {name: value.numpy() for name, value in traced([prompt]).items()}
    group = "decoder_" if generation.has_encoder(model.preprocessor) else ""
    ids, is_given = asked[f"{group}token_ids"], asked[f"{group}padding_mask"]
    begin = int(is_given.sum())
    for place in range(begin, begin + NUM_NEW):
        given = {**asked, f"{group}token_ids": ids[:, :place], f"{group}padding_mask": np.ones((1, place), bool)}
        ids[0, place] = np.asarray(network(given))[0, -1].argmax()
    read = generation.traced_reader(
        lambda ids, is_given: generation.text_of(model.preprocessor, ids, is_given, NUM_NEW, ends, [])
    )
    return read(ids, is_given)["text"].numpy()[0].decode()


def responses(model, prompts, **settings):
    found = generators.respond(model, {**SETTINGS, **settings})([prompts])
    return [text.decode() for text in np.asarray(found["text"]).tolist()]


# KerasHub's T5 says of its attention that it does not support masking.
# Its SentencePiece tokenizers leave the vocabulary file to the garbage collector.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*vocabulary.spm:ResourceWarning")
@pytest.mark.filterwarnings("ignore:.*:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:Layer .* does not support masking:UserWarning")
@pytest.mark.filterwarnings(r"ignore:[\s\S]*You are using a softmax over axis -1:UserWarning")  # of the first token
@pytest.mark.parametrize("family", [pytest.param(f, marks=[] if f in QUICK else pytest.mark.slow) for f in FAMILIES])
def test_family_responds_as_its_network_says_and_reopens_as_saved(family, tmp_path):
    model = generators.generator(save_preset(family, str(tmp_path / "pretrained")), SETTINGS, MAX_LENGTH, "float32", 0)
    expected = [greedy(model, prompt) for prompt in PROMPTS]
    assert len(set(expected)) > 1 or family == "T5"  # a random T5 says the same to every prompt
    assert responses(model, PROMPTS) == expected
    assert responses(model, PROMPTS[::-1]) == expected[::-1]

    saved = str(tmp_path / "tuned")
    model.save_to_preset(saved)
    opened = heads.open_task(saved)
    assert opened.preprocessor.sequence_length == MAX_LENGTH
    assert responses(opened, PROMPTS) == expected
    assert isinstance(keras_hub.models.CausalLM.from_preset(saved), type(model))


def test_a_family_that_generates_at_wrong_places_is_refused():
    class Preset:
        name, backbone_class = "neox", keras_hub.models.GPTNeoXBackbone

    with pytest.raises(PresetError, match="GPTNeoXBackbone: KerasHub generates with it as if each new token stood at"):
        generators.generator(Preset(), SETTINGS, MAX_LENGTH, "float32", 0)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    preset = save_preset("GPT2", str(tmp_path_factory.mktemp("presets") / "gpt2"))
    return generators.generator(preset, SETTINGS, MAX_LENGTH, "float32", 0)


@pytest.mark.slow
def test_beams_find_the_likeliest_of_all_responses(gpt2):
    """Among all those of two tokens, of 259 tokens each, whatever stands beside the prompt."""
    network = keras.Model(gpt2.input, gpt2.output)
    ends = generators.end_ids(gpt2.preprocessor.tokenizer)

    def log_probs(ids):
        logits = np.asarray(network({"token_ids": ids, "padding_mask": np.ones_like(ids)}))[:, -1].astype(np.float64)
        return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))

    expected = []
    for prompt in PROMPTS[:2]:
        traced = generation.traced(lambda texts: generation.asked(gpt2.preprocessor, texts, 2, MAX_LENGTH, ends))
        asked = traced([prompt])
        ids, begin = asked["token_ids"].numpy(), int(asked["padding_mask"].numpy().sum())
        first = log_probs(ids[:, :begin])[0]
        size = len(first)
        pairs = np.concatenate([np.repeat(ids[:, :begin], size, axis=0), np.arange(size)[:, None]], axis=1)
        second = log_probs(pairs)
        second[ends[0]] = np.where(np.arange(size) == ends[0], 0.0, -np.inf)  # a response that has ended is as it is
        best = np.unravel_index((first[:, None] + second).argmax(), (size, size))
        ids[0, begin : begin + 2] = best
        read = generation.traced_reader(
            lambda ids, is_given: generation.text_of(gpt2.preprocessor, ids, is_given, 2, ends, [])
        )
        expected.append(read(ids[:, : begin + 2], asked["padding_mask"].numpy()[:, : begin + 2])["text"].numpy()[0])
    found = responses(gpt2, PROMPTS[:2], decoding="beam", num_beams=259, max_new_tokens=2)
    assert found == [text.decode() for text in expected]


@pytest.mark.slow
@pytest.mark.parametrize("decoding", generators.DRAWN)
def test_drawn_responses_begin_anew_with_their_seed(gpt2, decoding):
    first, second = (responses(gpt2, PROMPTS, decoding=decoding, seed=3) for _ in range(2))
    assert first == second
    assert first != responses(gpt2, PROMPTS, decoding=decoding, seed=4)
    assert responses(gpt2, PROMPTS, decoding="top_k", top_k=1) == responses(gpt2, PROMPTS)


def test_responses_longer_than_the_positions_are_refused(tmp_path):
    settings = {**SETTINGS, "max_new_tokens": 90}
    preset = save_preset("GPT2", str(tmp_path / "gpt2"))
    with pytest.raises(RecipeError, match="max_new_tokens: found 90, but .* has 96 positions .* Ask for at most 88"):
        generators.generator(preset, settings, MAX_LENGTH, "float32", 0)
