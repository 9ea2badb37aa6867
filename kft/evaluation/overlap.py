"""How near generated texts are to the true ones: ROUGE, BLEU, chrF and exact match."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

ROUGE = ("rouge1", "rouge2", "rougeL")
NAMES = (*ROUGE, "bleu", "chrf", "exact_match")
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
    found = scorer.score(truth, answer)
    return {name: float(found[name].fmeasure) for name in ROUGE}


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
    import sacrebleu

    shared = [rouge(answer, truth) for answer, truth in zip(answers, truths, strict=True)]
    means = {name: float(np.mean([row[name] for row in shared])) for name in ROUGE}
    split = "zh" if is_chinese(truths) else "13a"
    # `force` is for texts that look split into words already, which need not be a mistake.
    bleu = sacrebleu.corpus_bleu(list(answers), [list(truths)], tokenize=split, force=True)
    exact = [answer.strip() == truth.strip() for answer, truth in zip(answers, truths, strict=True)]
    return {
        **means,
        "bleu": float(bleu.score),
        "chrf": float(sacrebleu.corpus_chrf(list(answers), [list(truths)]).score),
        "exact_match": float(np.mean(exact)),
        "num_rows": len(answers),
    }


def is_chinese(texts: Sequence[str]) -> bool:
    """Whether Chinese characters are a good part of the texts, and Japanese ones are not.

    >>> is_chinese(["北京 is a city"]), is_chinese(["我们在北京 (Beijing)"]), is_chinese(["東京に行きます"])
    (False, True, False)
    """
    whole = "".join(texts)
    letters = sum(letter.isalpha() for letter in whole)
    return len(HAN.findall(whole)) > HAN_SHARE * letters and not OF_JAPANESE.search(whole)
