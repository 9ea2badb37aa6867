"""Knobs that one task or a few have."""

from __future__ import annotations

from typing import Any, Literal

import pydantic

from kft.recipe.sections import Section, generation, pretraining, vectors


class VectorKnobs(Section):
    """Vectors of texts."""

    pooling: Literal["auto", "mean", "cls", "last"] = vectors(
        "auto", "How tokens become one vector. auto: mean; the last of a decoder.", tasks=("embed", "fewshot")
    )
    contrastive: Literal["auto", "multiple_negatives", "triplet", "cosine"] = vectors(
        "auto", "Loss of embed. auto: cosine where pairs have a number, else multiple_negatives.", tasks=("embed",)
    )


class PretrainingKnobs(Section):
    """What pretraining learns."""

    pretrain_objective: Literal["auto", "mlm", "clm", "nsp", "sop"] = pretraining(
        "auto",
        "What pretrain learns: masked tokens (mlm), the next token (clm), mlm and whether one sentence follows another "
        "(nsp) or their order (sop). auto: clm for decoders, else mlm.",
    )
    mask_rate: float = pretraining(
        0.15, "Share of the tokens that mlm, nsp and sop hide.", not_with={"pretrain_objective": ["clm"]}, gt=0, lt=1
    )
    whole_word_mask: bool = pretraining(
        False, "Hide all tokens of a word, or none.", not_with={"pretrain_objective": ["clm"]}
    )


class GenerationKnobs(Section):
    """Responses, and how they are generated."""

    max_new_tokens: int = generation(64, "Longest response in tokens.", ge=1)
    decoding: Literal["greedy", "beam", "top_k", "top_p", "sample"] = generation(
        "greedy", "How the next token is chosen: greedy and beam are the same every time."
    )
    num_beams: int = generation(
        4, "Responses that beam goes on with, side by side.", only_with={"decoding": ["beam"]}, ge=2
    )
    top_k: int = generation(50, "Likeliest tokens that top_k draws from.", only_with={"decoding": ["top_k"]}, ge=1)
    top_p: float = generation(
        0.9, "Share of the probability that top_p draws from.", only_with={"decoding": ["top_p"]}, gt=0, le=1
    )
    temperature: float = generation(
        1.0,
        "What logits are divided by where tokens are drawn.",
        only_with={"decoding": ["top_k", "top_p", "sample"]},
        gt=0,
    )
    stop: list[str] = generation([], "Stop strings: a response ends before the first of them.")
    packing: bool = generation(
        False, "Rows share lines of max_length tokens in training, and none sees another (decoders)."
    )

    @pydantic.field_validator("stop", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        texts = [value] if isinstance(value, str) else value
        if isinstance(texts, list | tuple) and "" in texts:
            raise ValueError("expected texts of one character or more")
        return list(texts) if isinstance(texts, tuple) else texts
