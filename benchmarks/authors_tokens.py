"""Token ids of ALBERT and XLM-RoBERTa as their authors' code has them, by the `sentencepiece` library."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import sentencepiece

SPACE = "\u2581"


def reader(proto: bytes, model_type: str, added: Sequence[Any], settings: dict[str, Any]) -> Callable[[str], list[int]]:
    """From a text to its ids.

    Args:
        proto: The SentencePiece model.
        model_type: `albert` or `xlm-roberta`.
        added: Tokens that are found in the text itself, as `kft.text.rules.Added`.
        settings: The content of tokenizer_config.json.
    """
    model = sentencepiece.SentencePieceProcessor(model_proto=proto)
    longest_first = sorted(added, key=lambda token: -len(token.text))
    pattern = "|".join((r"\s*" if token.takes_left else "") + re.escape(token.text) for token in longest_first)
    numbers = {token.text: token.id for token in added}

    def part(text: str) -> list[int]:
        if model_type == "albert":
            return [model.piece_to_id(piece) for piece in albert_pieces(model, albert_text(text, settings))]
        return [3 if number == 0 else number + 1 for number in model.encode(text)]

    def read(text: str) -> list[int]:
        ids, place = [], 0
        for match in re.finditer(pattern, text):
            ids += [*part(text[place : match.start()]), numbers[match.group().strip()]]
            place = match.end()
        return ids + part(text[place:])

    return read


def albert_text(text: str, settings: dict[str, Any]) -> str:
    """What is done to a text before the model; see `preprocess_text` in tokenization.py of google-research/albert."""
    text = " ".join(text.split()).replace("``", '"').replace("''", '"')
    if not settings["keep_accents"]:
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return text.lower() if settings["do_lower_case"] else text


def albert_pieces(model: Any, text: str) -> list[str]:
    """The pieces of a text, with the comma apart where a piece has it after a digit; see `encode_pieces` there."""
    pieces: list[str] = []
    for piece in model.encode(text, out_type=str):
        if len(piece) < 2 or piece[-1] != "," or not piece[-2].isdigit():
            pieces.append(piece)
            continue
        head = model.encode(piece[:-1].replace(SPACE, ""), out_type=str)
        if piece[0] != SPACE and head[0][0] == SPACE:
            head = [*([head[0][1:]] if len(head[0]) > 1 else []), *head[1:]]
        pieces += [*head, ","]
    return pieces


def is_tie(proto: bytes, ids: Sequence[int], other: Sequence[int], shift: int) -> bool:
    """Whether two ways to cut a text are as likely, within the rounding of float32.

    Args:
        proto: The SentencePiece model.
        ids: The ids of one way.
        other: Those of the other.
        shift: What is added to the ids of the model.
    """
    model = sentencepiece.SentencePieceProcessor(model_proto=proto)
    size = model.get_piece_size()
    ways = [[number - shift for number in way if 0 <= number - shift < size] for way in (ids, other)]
    texts = ["".join(model.id_to_piece(way)) for way in ways]
    first, second = (sum(model.get_score(number) for number in way) for way in ways)
    return texts[0] == texts[1] and abs(first - second) <= 1e-6 * abs(first)
