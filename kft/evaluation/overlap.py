"""How near generated texts are to the true ones: ROUGE, BLEU, chrF and exact match."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kft.evaluation import perplexity
from kft.evaluation.counts import ratio
from kft.evaluation.metric import Kind, Mean, Metric, RowScores, count_of, evaluate, number

ROUGE = ("rouge1", "rouge2", "rougeL")
BLEU_ORDER, CHRF_ORDER, CHRF_BETA = 4, 6, 2
# Chinese, Japanese, Thai, Lao, Burmese and Khmer put no spaces between words.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff"
WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")
HAN, OF_JAPANESE = re.compile("[\u3400-\u9fff\U00020000-\U0003ffff]"), re.compile("[\u3040-\u30ff]")
HAN_SHARE = 0.3


class Words:
    """What ROUGE counts: words in lower case, and single characters of scripts without spaces.

    In English these are the words of `rouge-score`, which knows no other letters.
    """

    def tokenize(self, text: str) -> list[str]:
        """The words of a text.

        >>> Words().tokenize("Don't: 北京 2026")
        ['don', 't', '北', '京', '2026']
        """
        return WORD.findall(text.lower())


def rouge(answer: str, truth: str) -> dict[str, float]:
    """F1 of words (`rouge1`), of pairs of words (`rouge2`), and of the longest common sequence (`rougeL`).

    Reference:
        Lin, 2004, https://aclanthology.org/W04-1013

    >>> rouge("a cup of tea", "tea")["rouge1"]
    0.4
    """
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(list(ROUGE), tokenizer=Words())
    scores = scorer.score(truth, answer)
    return {name: float(scores[name].fmeasure) for name in ROUGE}


def row_scores(answers: Sequence[str], truths: Sequence[str]) -> dict[str, np.ndarray]:
    """How near each generated text is to the true one.

    Args:
        answers: The generated texts.
        truths: The true text of each row.

    Returns:
        `rouge1`, `rouge2`, `rougeL` and `exact_match` of each row; the counts that BLEU over many rows is made of as
        `bleu` `(rows, 10)`: the n-grams in common, those of the answer, and the lengths of answer and truth in words;
        and those of chrF as `chrf` `(rows, 18)`: for each length of n-grams of characters those of the answer, of the
        truth, and in common.
    """
    pairs = list(zip(answers, truths, strict=True))
    rouges = [rouge(answer, truth) for answer, truth in pairs]
    rows = {name: np.array([row[name] for row in rouges]) for name in ROUGE}
    return {
        **rows,
        "exact_match": np.array([answer.strip() == truth.strip() for answer, truth in pairs]),
        "bleu": _bleu_counts(pairs, "zh" if is_chinese(truths) else "13a"),
        "chrf": np.array([_chrf_counts(answer, truth) for answer, truth in pairs]),
    }


def scored(answers: Sequence[str], truths: Sequence[str]) -> dict[str, Any]:
    """Metrics over all rows.

    Args:
        answers: The generated texts.
        truths: The true text of each row.

    Returns:
        `rouge1`, `rouge2`, `rougeL` and `exact_match` in [0, 1], as means over the rows; `bleu` and `chrf` from 0 to
        100, over all rows at once, as sacreBLEU has them; `num_rows`. BLEU splits by `13a`, Chinese by `zh`. For
        `exact_match` white space around a text does not count.

    References:
        Papineni et al., 2002, https://aclanthology.org/P02-1040; Popović, 2015, https://aclanthology.org/W15-3049;
        Post, 2018, https://aclanthology.org/W18-6319
    """
    return {**evaluate(METRICS, row_scores(answers, truths)), "num_rows": len(answers)}


def _bleu_counts(pairs: Sequence[tuple[str, str]], split: str) -> np.ndarray:
    from sacrebleu.metrics.bleu import BLEU

    # `force` is for texts that look split into words already, which need not be a mistake.
    bleu = BLEU(tokenize=split, force=True)
    scores = [bleu.corpus_score([answer], [[truth]]) for answer, truth in pairs]
    return np.array([[*score.counts, *score.totals, score.sys_len, score.ref_len] for score in scores])


def _bleu(rows: RowScores) -> float:
    from sacrebleu.metrics.bleu import BLEU

    *ngrams, answered, true = rows["bleu"].sum(axis=0).tolist()
    common, total = ngrams[:BLEU_ORDER], ngrams[BLEU_ORDER:]
    return float(BLEU.compute_bleu(common, total, answered, true, smooth_method="exp").score)


def _chrf_counts(answer: str, truth: str) -> list[int]:
    counts: list[int] = []
    texts = ["".join(text.split()) for text in (answer, truth)]
    for length in range(1, CHRF_ORDER + 1):
        given, true = (Counter(text[i : i + length] for i in range(len(text) - length + 1)) for text in texts)
        counts += [given.total() if true else 0, true.total(), (given & true).total()]
    return counts


def _chrf(rows: RowScores) -> float:
    given, true, common = rows["chrf"].sum(axis=0).reshape(CHRF_ORDER, 3).T
    is_effective = (given > 0) & (true > 0)
    if not is_effective.any():
        return 0.0
    precision, recall = (float(ratio(common, whole)[is_effective].mean()) for whole in (given, true))
    weighted = CHRF_BETA**2 * precision + recall
    return 100 * (1 + CHRF_BETA**2) * precision * recall / weighted if weighted else 0.0


def is_chinese(texts: Sequence[str]) -> bool:
    """Whether Chinese characters are a good part of the texts, and Japanese ones are not.

    >>> is_chinese(["北京 is a city"]), is_chinese(["我们在北京 (Beijing)"]), is_chinese(["東京に行きます"])
    (False, True, False)
    """
    whole = "".join(texts)
    letters = sum(letter.isalpha() for letter in whole)
    return len(HAN.findall(whole)) > HAN_SHARE * letters and not OF_JAPANESE.search(whole)


def _sentence(values: Mapping[str, Any], rows: str) -> str:
    total = values["num_rows"]
    return (
        f"ROUGE-L {number(values['rougeL'])} on average over {total:,} {rows}; exactly the true text in "
        f"{count_of(values['exact_match'], total)} ({values['exact_match']:.1%})."
    )


def _details(values: Mapping[str, Any]) -> list[str]:
    details = [f"BLEU {values['bleu']:.1f} and chrF {values['chrf']:.1f} of 100."]
    if "perplexity" in values:
        details.append(f"Perplexity {number(values['perplexity'])} for each token of the true responses.")
    return details


METRICS = (
    Metric("rouge1", "max", "mean F1 of the words in common with the true text", False, Mean("rouge1")),
    Metric("rouge2", "max", "mean F1 of the pairs of words in common with the true text", False, Mean("rouge2")),
    Metric("rougeL", "max", "mean F1 of the longest common sequence of words", True, Mean("rougeL")),
    Metric("bleu", "max", "precision of 1 to 4 words in a row over all texts, from 0 to 100", False, _bleu),
    Metric("chrf", "max", "F score of 1 to 6 characters in a row over all texts, from 0 to 100", False, _chrf),
    Metric("exact_match", "max", "share of texts that equal the true one", False, Mean("exact_match"), is_share=True),
)
NAMES = tuple(metric.name for metric in METRICS)
KIND = Kind("generation", (*perplexity.secondary(), *METRICS), _sentence, _details)
