"""KerasHub tokenizers with the rules of the original ones, read off a preset's own files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras_hub
from keras_hub.tokenizers import BytePairTokenizer, SentencePieceTokenizer, WordPieceTokenizer, XLMRobertaTokenizer

from kft.accelerate.internals import get_preset_loader
from kft.errors import PresetError, quoted
from kft.models.preset_files import read_json
from kft.models.tokenizer_files import (
    Files,
    byte_pair_settings,
    no_vocabulary,
    sentence_piece_changes,
    word_piece_settings,
    word_piece_vocabulary,
)
from kft.text import rules
from kft.text.rules import Added, Normalizer, Rules, Split

SENTENCE_PIECE = {"albert": "spiece.model"}  # of all others sentencepiece.bpe.model
# Tokenizers of KerasHub presets whose original splits are known; KerasHub's own way drops U+096C and knows few spaces.
KERAS_HUB_SPLITS: dict[str, Split] = {
    "GPT2Tokenizer": "gpt2",
    "RobertaTokenizer": "gpt2",
    "BartTokenizer": "gpt2",
    "OPTTokenizer": "gpt2",
    "Llama3Tokenizer": "llama3",
    "QwenTokenizer": "qwen2",
}
BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def of_keras_hub(tokenizer: Any) -> Any:
    """A tokenizer of a KerasHub preset, with rules where it is byte-level BPE of a known kind."""
    if isinstance(tokenizer, BytePairTokenizer) and tokenizer.unsplittable_tokens:
        # KerasHub lists a set, in another order in each process.
        tokenizer.unsplittable_tokens = sorted(tokenizer.unsplittable_tokens)
    split = KERAS_HUB_SPLITS.get(type(tokenizer).__name__)
    if split is None or rules.of(tokenizer) is not None or tokenizer.sequence_length:
        return tokenizer
    names = [name for name in tokenizer.unsplittable_tokens or () if name in tokenizer.vocabulary]
    added = tuple(Added(name, tokenizer.vocabulary[name]) for name in sorted(names))
    normalizers: tuple[Normalizer, ...] = ("nfc",) if split == "qwen2" else ()
    return rules.attach(
        tokenizer, Rules(added, normalizers, split, tokenizer.add_prefix_space, whole_words=split == "llama3")
    )


def of_hugging_face(handle: str, tokenizer_class: Any, config: Mapping[str, Any]) -> Any:
    """The tokenizer of a Hugging Face directory, which reads texts as the model's authors did.

    Its ids are those of the `tokenizers` library by the same files; docs/tokenizers.md says which are not.

    Args:
        handle: The directory, or what KerasHub's `from_preset` takes.
        tokenizer_class: KerasHub's, of the model type.
        config: The content of config.json.

    Raises:
        PresetError: A file is missing, or says something that cannot be done.
    """
    files = Files(handle, config)
    if "XLMRoberta" in str(files.settings.get("tokenizer_class", "")):
        tokenizer_class = XLMRobertaTokenizer
    if issubclass(tokenizer_class, WordPieceTokenizer):
        return _word_piece(files, tokenizer_class)
    if issubclass(tokenizer_class, BytePairTokenizer):
        return _byte_pair(files, tokenizer_class)
    if tokenizer_class in (XLMRobertaTokenizer, keras_hub.tokenizers.AlbertTokenizer):
        return _sentence_piece(files, tokenizer_class)
    return get_preset_loader(handle).load_tokenizer(tokenizer_class)


# -- WordPiece -----------------------------------------------------------------------------------------------------


def _word_piece(files: Files, tokenizer_class: Any) -> Any:
    lower, accents, cjk, clean = word_piece_settings(files)
    vocabulary = word_piece_vocabulary(files)
    ids = {token: number for number, token in enumerate(vocabulary)}
    model = files.part("model")
    for setting, expected in {
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
    }.items():
        if model.get(setting, expected) != expected:
            raise files.refusal("tokenizer.json", f"model.{setting}", model[setting], repr(expected))
    added = files.added(ids, BERT_SPECIAL, has_normalizers=True)
    missing = [name for name in BERT_SPECIAL if name not in ids]
    if missing:
        raise PresetError(
            f"preset {files.handle}: the vocabulary has no {missing[0]}; expected {', '.join(BERT_SPECIAL)}."
        )
    changes: list[Normalizer] = []
    changes += ["clean"] if clean else []
    changes += ["cjk"] if cjk else []
    changes += ["nfd", "nonspacing"] if accents else []
    changes += ["lower"] if lower else []
    # What plain KerasHub can be told of this, so that it reads most texts alike.
    tokenizer = tokenizer_class(
        vocabulary=vocabulary, lowercase=lower, strip_accents=accents, special_tokens_in_strings=True
    )
    return rules.attach(tokenizer, Rules(added, tuple(changes), "bert"))


# -- byte-level BPE ------------------------------------------------------------------------------------------------


def _byte_pair(files: Files, tokenizer_class: Any) -> Any:
    split, prefix, changes = byte_pair_settings(files)
    model = files.part("model")
    for setting in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "fuse_unk"):
        if model.get(setting):
            raise files.refusal("tokenizer.json", f"model.{setting}", model[setting], "none")
    if model.get("type", "BPE") != "BPE":
        raise files.refusal("tokenizer.json", "model.type", model.get("type"), "BPE")
    tokenizer = _byte_pair_tokenizer(files, tokenizer_class, prefix)
    tokenizer.unsplittable_tokens = sorted(tokenizer.unsplittable_tokens or ())
    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>")
    added = files.added(tokenizer.vocabulary, special, has_normalizers=bool(changes))
    return rules.attach(tokenizer, Rules(added, changes, split, prefix, bool(model.get("ignore_merges"))))


def _byte_pair_tokenizer(files: Files, tokenizer_class: Any, prefix: bool) -> Any:
    model = files.part("model")
    vocab, merges = files.path("vocab.json"), files.path("merges.txt")
    plain = {"GPT2Tokenizer", "RobertaTokenizer", "BartTokenizer"}
    if tokenizer_class.__name__ not in plain:
        if files.pipeline is None:
            raise no_vocabulary(files, "tokenizer.json")
        return get_preset_loader(files.handle).load_tokenizer(tokenizer_class)
    if model:
        pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
        entries = (files.pipeline or {}).get("added_tokens", [])
        vocabulary = {**model["vocab"], **{entry["content"]: entry["id"] for entry in entries}}
        if vocab is not None:
            listed = read_json(files.handle, "vocab.json") or {}
            other = next((token for token in listed if vocabulary.get(token) != listed[token]), None)
            if other is not None:
                raise PresetError(
                    f"preset {files.handle}: {quoted(other)} is token {listed[other]} in vocab.json and "
                    f"{vocabulary.get(other)} in tokenizer.json; expected the same in both."
                )
        return tokenizer_class(vocabulary=vocabulary, merges=pairs, add_prefix_space=prefix)
    if vocab is None or merges is None:
        raise no_vocabulary(files, "vocab.json and merges.txt, or tokenizer.json")
    lines = merges.read_text(encoding="utf-8").split("\n")
    pairs = [line.rstrip("\r") for line in lines if line.strip() and not line.startswith("#version")]
    vocabulary = read_json(files.handle, "vocab.json") or {}
    return tokenizer_class(vocabulary=vocabulary, merges=pairs, add_prefix_space=prefix)


# -- SentencePiece -------------------------------------------------------------------------------------------------


def _sentence_piece(files: Files, tokenizer_class: Any) -> Any:
    name = SENTENCE_PIECE.get(files.model_type, "sentencepiece.bpe.model")
    path = files.path(name)
    if path is None:
        raise no_vocabulary(files, name)
    tokenizer: SentencePieceTokenizer = tokenizer_class(proto=path.read_bytes())
    ids = {token: number for number, token in enumerate(tokenizer.get_vocabulary())}
    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    if files.model_type == "albert":
        special = ("[CLS]", "[SEP]", "<pad>", "<unk>", "[MASK]")
    added, changes = files.added(ids, special, has_normalizers=True), sentence_piece_changes(files)
    return rules.attach(tokenizer, Rules(added, changes, "albert" if files.model_type == "albert" else "sentencepiece"))
