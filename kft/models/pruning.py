"""A pretrained model with the pieces of its vocabulary that some texts need, and no others.

A tokenizer keeps what those texts are made of, so that it cuts them as before:

- Unigram SentencePiece looks for the likeliest pieces. The likeliest of all are the likeliest of fewer, too. The piece
  with the smallest score stays, as the score of unknown characters comes of it, and so does that with the largest.
- WordPiece takes the longest piece that fits. What it tries in a word that it does not know in the end stays, too.
- Byte-level BPE merges pairs in the order of their ranks. What a piece is merged of in between stays, too.

Reference:
    Abdaoui et al., 2020, "Load What You Need", https://aclanthology.org/2020.sustainlp-1.16
"""

from __future__ import annotations

import inspect
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras_hub.tokenizers import BytePairTokenizer, SentencePieceTokenizer, WordPieceTokenizer
from sentencepiece import sentencepiece_model_pb2

from kft.errors import PresetError
from kft.models import xlnet
from kft.text import rules
from kft.text.unknown import unknown_id

UNIGRAM, NORMAL = 1, 1  # of sentencepiece_model.proto: TrainerSpec.ModelType and SentencePiece.Type
PROBED = 8
"""Tokens of the row that a backbone is compared by; all have so many positions."""
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""What SentencePiece writes for a space."""


def pruned_tokenizer(tokenizer: Any, used: Iterable[int], words: Callable[[], Iterable[str]]) -> tuple[Any, np.ndarray]:
    """A tokenizer of the same class with fewer pieces, which cuts the texts that gave `used` as before.

    Args:
        tokenizer: KerasHub's, perhaps with `kft.text.rules`.
        used: The ids that are to stay, beside special tokens and single characters or bytes.
        words: Gives the words of those texts, which are looked at where some of them are unknown.

    Returns:
        The tokenizer; and for each of its ids, in order, the id that its piece had.

    Raises:
        PresetError: A tokenizer of another kind, or one whose pieces cannot be told from each other.
    """
    kind = next((each for each in _KINDS if isinstance(tokenizer, each)), None)
    if kind is None:
        raise _refused(tokenizer, "its kind of tokenizer is not known. Expected WordPiece, byte-level BPE or unigram")
    ids = _ids(tokenizer)
    names = {number: piece for piece, number in ids.items()}
    found = rules.of(tokenizer)
    special = [added.id for added in found.added] if found else []
    used = {int(number) for number in used}
    kept = {*used, *(int(number) for number in [*special, *tokenizer.special_token_ids])}
    if nameless := kept - names.keys():
        raise _refused(tokenizer, f"token {min(nameless)} is none of its pieces")
    unknown = unknown_id(tokenizer)
    has_unknown, kept = unknown in used, kept if unknown is None else {*kept, unknown}
    made = _KINDS[kind](tokenizer, ids, kept, words if has_unknown else lambda: [])
    order = np.array([ids[piece] for piece, _ in sorted(_ids(made).items(), key=lambda item: item[1])], np.int64)
    if found is not None:
        new_ids = {int(old): new for new, old in enumerate(order)}
        made = rules.attach(made, replace(found, added=tuple(replace(a, id=new_ids[a.id]) for a in found.added)))
    return made, order


def pruned_backbone(backbone: Any, order: np.ndarray) -> Any:
    """A backbone whose embeddings, and output layers if it has any, have the rows of these tokens alone.

    Args:
        backbone: KerasHub's.
        order: For each token of the new one, the row that it had.

    Raises:
        PresetError: A backbone whose weights do not follow the size of its vocabulary, or that gives something else
            with a smaller one.
    """
    config = _settings_of(backbone)
    size_name = next((name for name in ("vocabulary_size", "vocab_size") if isinstance(config.get(name), int)), None)
    if size_name is None:
        raise _refused(backbone, "it says nothing of the size of its vocabulary")
    num_rows = config[size_name]
    made = type(backbone).from_config({**config, size_name: len(order)})
    if [weight.name for weight in made.weights] != [weight.name for weight in backbone.weights]:
        raise _refused(backbone, "its weights are others with a smaller vocabulary")
    for new, old in zip(made.weights, backbone.weights, strict=True):
        values, shape = np.asarray(old), tuple(new.shape)
        for axis, (size, was) in enumerate(zip(shape, values.shape, strict=True)):
            if (size, was) == (len(order), num_rows) and size != was:
                values = np.take(values, order, axis=axis)
        if values.shape != shape:
            raise _refused(backbone, f"{old.path} has shape {tuple(old.shape)}, which cannot become {shape}")
        new.assign(values)
    xlnet.mend(made)
    ids = np.arange(min(len(order), PROBED))[None]
    for new, old in zip(_outputs(made, ids), _outputs(backbone, order[ids]), strict=True):
        if not np.array_equal(new, old):
            raise _refused(backbone, "it gives other outputs with a smaller vocabulary")
    return made


def _settings_of(backbone: Any) -> dict[str, Any]:
    """What makes the backbone anew, those settings included that KerasHub leaves out, such as Llama's tied weights."""
    config, parameters = backbone.get_config(), inspect.signature(type(backbone).__init__).parameters
    further = [name for name in parameters if name not in config and name not in ("self", "dtype", "kwargs")]
    return {**config, **{name: getattr(backbone, name) for name in further if hasattr(backbone, name)}}


def _outputs(backbone: Any, ids: np.ndarray) -> list[np.ndarray]:
    """What a backbone gives for a row of tokens."""
    values = {"token_ids": ids, "padding_mask": np.ones_like(ids), "segment_ids": np.zeros_like(ids)}
    inputs = {name: next(v for suffix, v in values.items() if name.endswith(suffix)) for name in backbone.input}
    found = backbone({name: value.astype("int32") for name, value in inputs.items()}, training=False)
    return [keras.ops.convert_to_numpy(keras.ops.cast(each, "float32")) for each in keras.tree.flatten(found)]


def _refused(owner: Any, why: str) -> PresetError:
    return PresetError(
        f"prune_vocabulary: the vocabulary of {type(owner).__name__} cannot be cut exactly: {why}. Leave "
        "prune_vocabulary out."
    )


def _ids(tokenizer: Any) -> dict[str, int]:
    """The id of each piece.

    Raises:
        PresetError: Two are called the same, or ids are left out.
    """
    if isinstance(tokenizer, BytePairTokenizer):
        ids = dict(tokenizer.vocabulary)
        if sorted(ids.values()) != list(range(len(ids))):
            raise _refused(tokenizer, "its ids are not counted from 0 on without gaps")
        return ids
    pieces = tokenizer.get_vocabulary()
    if len(set(pieces)) < len(pieces):
        raise _refused(tokenizer, "two of its pieces are called the same")
    return {piece: number for number, piece in enumerate(pieces)}


def _made(tokenizer: Any, **vocabulary: Any) -> Any:
    """A tokenizer with the same settings and another vocabulary."""
    return type(tokenizer).from_config({**tokenizer.get_config(), **vocabulary})


def _sentence_piece(tokenizer: Any, ids: Mapping[str, int], kept: set[int], words: Any) -> Any:
    model = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.proto)  # type: ignore[attr-defined]
    if model.trainer_spec.model_type != UNIGRAM:
        raise _refused(tokenizer, "it is no unigram model of SentencePiece")
    names = {piece for piece, number in ids.items() if number in kept}
    normal = [piece for piece in model.pieces if piece.type == NORMAL]
    if normal:
        names |= {min(normal, key=lambda p: p.score).piece, max(normal, key=lambda p: p.score).piece}
    found = rules.of(tokenizer)
    # ALBERT cuts a piece that ends with a digit and a comma once more.
    again = re.compile(r"\d,$") if found is not None and found.split == "albert" else None

    def stays(piece: Any) -> bool:
        text = piece.piece
        is_single = len(text.removeprefix(SPACE)) <= 1
        return piece.type != NORMAL or is_single or text in names or bool(again and again.search(text))

    pieces = [piece for piece in model.pieces if stays(piece)]
    del model.pieces[:]
    model.pieces.extend(pieces)
    model.trainer_spec.vocab_size = len(pieces)
    return _made(tokenizer, proto=model.SerializeToString())


def _word_piece(tokenizer: Any, ids: Mapping[str, int], kept: set[int], words: Any) -> Any:
    start = tokenizer.suffix_indicator
    names = {piece for piece, number in ids.items() if number in kept or len(piece.removeprefix(start)) <= 1}
    for form in {form for word in set(words()) for form in _forms(word)}:
        names |= _tried(form, ids, start)
    pieces = [piece for piece in ids if piece in names]
    return _made(tokenizer, vocabulary=pieces)


def _forms(word: str) -> set[str]:
    """A word as normalisation may make it, and its parts between punctuation."""
    forms = {word, word.lower()}
    forms |= {unicodedata.normalize("NFD", form) for form in forms}
    forms |= {"".join(sign for sign in form if unicodedata.category(sign) != "Mn") for form in forms}
    return {part for form in forms for part in [form, *re.split(r"[\W_]+", form)] if part}


def _tried(word: str, ids: Mapping[str, int], start: str) -> set[str]:
    """The pieces that WordPiece takes from the front of a word before it finds that it does not know the rest."""
    found: set[str] = set()
    begin = 0
    while begin < len(word):
        prefix = start if begin else ""
        end = next((end for end in range(len(word), begin, -1) if prefix + word[begin:end] in ids), None)
        if end is None:
            return found
        found.add(prefix + word[begin:end])
        begin = end
    return set()


def _byte_pair(tokenizer: Any, ids: Mapping[str, int], kept: set[int], words: Any) -> Any:
    ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(tokenizer.merges)}
    special = {*(tokenizer.unsplittable_tokens or ()), *tokenizer.special_tokens}
    names = {piece for piece, number in ids.items() if number in kept or len(piece) == 1 or piece in special}
    merges: set[int] = set()
    further = ["".join(pair) for pair in list(ranks)[:1]]  # KerasHub takes no tokenizer without merges
    for piece in [*(names - special), *further]:
        for rank, result in _merges_of(piece, ranks):
            merges.add(rank)
            names.add(result)
    order = sorted(names & ids.keys(), key=lambda piece: ids[piece])
    vocabulary = {piece: number for number, piece in enumerate(order)}
    lines = [tokenizer.merges[rank] for rank in sorted(merges)]
    return _made(tokenizer, vocabulary=vocabulary, merges=lines)


def _merges_of(piece: str, ranks: Mapping[tuple[str, ...], int]) -> list[tuple[int, str]]:
    """The rank and the result of each merge that a piece comes of.

    >>> _merges_of("abc", {("b", "c"): 0, ("a", "bc"): 1, ("a", "b"): 2})
    [(0, 'bc'), (1, 'abc')]
    """
    parts, done = list(piece), []
    while len(parts) > 1:
        pairs = [
            (ranks[pair], place) for place, pair in enumerate(zip(parts, parts[1:], strict=False)) if pair in ranks
        ]
        if not pairs:
            break
        rank, place = min(pairs)
        parts[place : place + 2] = ["".join(parts[place : place + 2])]
        done.append((rank, parts[place]))
    return done


_KINDS: dict[type, Callable[..., Any]] = {
    SentencePieceTokenizer: _sentence_piece,
    WordPieceTokenizer: _word_piece,
    BytePairTokenizer: _byte_pair,
}
