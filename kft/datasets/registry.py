"""The benchmarks that kft knows by name. Adding one is an entry of `BENCHMARKS`, `STRUCTURED` or `REASONING`."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from kft.datasets import layouts
from kft.datasets.layouts import Benchmark, File, Hub, Made
from kft.datasets.structured import STRUCTURED
from kft.datasets.superglue import REASONING
from kft.errors import RecipeError, did_you_mean


def names() -> list[str]:
    """All names, with each variant that is listed."""
    return [re.sub("<.*>", variant, key) for key, entry in BENCHMARKS.items() for variant in entry.variants or ("",)]


def is_name(source: Any) -> bool:
    """Whether a source is the name of a benchmark, or looks as if it were meant as one.

    >>> is_name("glue:sst2"), is_name("gleu:sst2"), is_name("rows.csv")
    (True, True, False)
    """
    if not isinstance(source, str):
        return False
    looks_like_one = source in names() or re.fullmatch(r"[A-Za-z]\w+:[\w<>-]*", source) is not None
    return looks_like_one and not Path(source).is_file()


def find(name: str) -> tuple[Benchmark, str]:
    """The benchmark of this name and its variant, `""` where there are none.

    Raises:
        RecipeError: No benchmark is called so.
    """
    for key, benchmark in BENCHMARKS.items():
        for variant in benchmark.variants or ("",):
            if name == re.sub("<.*>", variant, key):
                return benchmark, variant
        start = key.partition("<")[0]
        variant = name.removeprefix(start)
        if benchmark.variant_pattern and variant != name and re.fullmatch(benchmark.variant_pattern, variant):
            return benchmark, variant
    raise RecipeError(
        f"unknown benchmark {name!r}.{did_you_mean(name.casefold(), names())} Expected one of: {', '.join(BENCHMARKS)}."
    )


def _tsv_pair(folder: str) -> tuple[dict[str, File], ...]:
    return ({"train": File(f"{folder}/train.tsv"), "validation": File(f"{folder}/dev.tsv")},)


def _jsonl_pair(folder: str) -> tuple[dict[str, File], ...]:
    files = {"train": "train.jsonl", "validation": "val.jsonl"}
    return ({part: File(f"{folder}/{file}", layouts.jsonl) for part, file in files.items()},)


PAIR = {"text": ("sentence1",), "text_pair": ("sentence2",), "label": ("label",)}
PREMISE = {"text": ("premise",), "text_pair": ("hypothesis",), "label": ("label",)}
# The files of MNLI and XNLI name the same columns in three ways, and the hub in a fourth.
NLI = {
    "text": ("sentence1", "premise"),
    "text_pair": ("sentence2", "hypo", "hypothesis"),
    "label": ("gold_label", "label"),
}
ENTAILMENT = {"entailment": "entailment", "not_entailment": "not_entailment"}
THREE_WAYS = {"entailment": "entailment", "neutral": "neutral", "contradiction": "contradiction"}
TRUTH = {"False": "false", "True": "true"}
MSR = "MRPC/msr_paraphrase_train.txt"
COLA = partial(layouts.tsv, names=("source", "label", "mark", "sentence"))
QQP = partial(layouts.tsv, last=("0", "1"))
PAWSX = partial(layouts.tsv, quoted=True, last=("0", "1"))

BENCHMARKS: dict[str, Benchmark] = {
    "glue:cola": Benchmark(
        task="classify",
        columns={"text": ("sentence",), "label": ("label",)},
        layouts=({"train": File("CoLA/train.tsv", COLA), "validation": File("CoLA/dev.tsv", COLA)},),
        metrics=("mcc",),
        hub=Hub("nyu-mll/glue", "cola"),
        labels={"0": "unacceptable", "1": "acceptable"},
    ),
    "glue:sst2": Benchmark(
        task="classify",
        columns={"text": ("sentence",), "label": ("label",)},
        layouts=_tsv_pair("SST-2"),
        metrics=("accuracy",),
        hub=Hub("nyu-mll/glue", "sst2"),
        labels={"0": "negative", "1": "positive"},
    ),
    "glue:mrpc": Benchmark(
        task="classify",
        columns={
            "text": ("#1 String", "sentence1"),
            "text_pair": ("#2 String", "sentence2"),
            "label": ("Quality", "label"),
        },
        layouts=(
            *_tsv_pair("MRPC"),
            {
                "train": File(MSR, partial(layouts.mrpc, dev=False)),
                "validation": File(MSR, partial(layouts.mrpc, dev=True)),
            },
        ),
        metrics=("f1", "accuracy"),
        hub=Hub("nyu-mll/glue", "mrpc"),
        labels={"0": "not_equivalent", "1": "equivalent"},
    ),
    "glue:qqp": Benchmark(
        task="classify",
        columns={"text": ("question1",), "text_pair": ("question2",), "label": ("is_duplicate", "label")},
        layouts=({"train": File("QQP/train.tsv", QQP), "validation": File("QQP/dev.tsv", QQP)},),
        metrics=("f1", "accuracy"),
        hub=Hub("nyu-mll/glue", "qqp"),
        labels={"0": "not_duplicate", "1": "duplicate"},
    ),
    "glue:stsb": Benchmark(
        task="regress",
        columns={"text": ("sentence1",), "text_pair": ("sentence2",), "label": ("score", "label")},
        layouts=_tsv_pair("STS-B"),
        metrics=("pearson", "spearman"),
        hub=Hub("nyu-mll/glue", "stsb"),
    ),
    "glue:mnli": Benchmark(
        task="classify",
        columns=NLI,
        layouts=(
            {
                "train": File("MNLI/train.tsv"),
                "validation": File("MNLI/dev_matched.tsv"),
                "test": File("MNLI/dev_mismatched.tsv"),
            },
        ),
        metrics=("accuracy",),
        hub=Hub("nyu-mll/glue", "mnli", {"validation": "validation_matched", "test": "validation_mismatched"}),
        labels=THREE_WAYS,
        note="validation is the matched dev set and test the mismatched one; the official test sets have no labels",
    ),
    "glue:qnli": Benchmark(
        task="classify",
        columns={"text": ("question",), "text_pair": ("sentence",), "label": ("label",)},
        layouts=_tsv_pair("QNLI"),
        metrics=("accuracy",),
        hub=Hub("nyu-mll/glue", "qnli"),
        labels=ENTAILMENT,
    ),
    "glue:rte": Benchmark(
        task="classify",
        columns=PAIR,
        layouts=_tsv_pair("RTE"),
        metrics=("accuracy",),
        hub=Hub("nyu-mll/glue", "rte"),
        labels=ENTAILMENT,
    ),
    "glue:wnli": Benchmark(
        task="classify",
        columns=PAIR,
        layouts=_tsv_pair("WNLI"),
        metrics=("accuracy",),
        hub=Hub("nyu-mll/glue", "wnli"),
        labels={"0": "not_entailment", "1": "entailment"},
    ),
    "superglue:boolq": Benchmark(
        task="classify",
        # The question stands first: the passage is the long one, and the second text is what gets cut.
        columns={"text": ("question",), "text_pair": ("passage",), "label": ("label",)},
        layouts=_jsonl_pair("BoolQ"),
        metrics=("accuracy",),
        hub=Hub("aps/super_glue", "boolq"),
        labels=TRUTH,
    ),
    "superglue:cb": Benchmark(
        task="classify",
        columns=PREMISE,
        layouts=_jsonl_pair("CB"),
        metrics=("accuracy", "macro_f1"),
        hub=Hub("aps/super_glue", "cb"),
        labels=THREE_WAYS,
    ),
    "superglue:rte": Benchmark(
        task="classify",
        columns=PREMISE,
        layouts=_jsonl_pair("RTE"),
        metrics=("accuracy",),
        hub=Hub("aps/super_glue", "rte"),
        labels=ENTAILMENT,
    ),
    "superglue:wic": Benchmark(
        task="classify",
        columns={**PAIR, "text": Made(("word", "sentence1"), "{}: {}".format)},
        layouts=_jsonl_pair("WiC"),
        metrics=("accuracy",),
        hub=Hub("aps/super_glue", "wic"),
        labels=TRUTH,
    ),
    "xnli:<language>": Benchmark(
        task="classify",
        columns=NLI,
        layouts=(
            {
                "train": File("XNLI-MT-1.0/multinli/multinli.train.{variant}.tsv"),
                "validation": File("XNLI-1.0/xnli.dev.tsv"),
                "test": File("XNLI-1.0/xnli.test.tsv"),
            },
        ),
        metrics=("accuracy",),
        hub=Hub("facebook/xnli", "{variant}"),
        labels={**THREE_WAYS, "contradictory": "contradiction"},
        variants=("ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh"),
        only=("language",),
    ),
    "pawsx:<language>": Benchmark(
        task="classify",
        columns=PAIR,
        layouts=(
            {
                "train": File("x-final/{variant}/translated_train.tsv", PAWSX),
                "validation": File("x-final/{variant}/dev_2k.tsv", PAWSX),
                "test": File("x-final/{variant}/test_2k.tsv", PAWSX),
            },
            {"train": File("x-final/{variant}/train.tsv", PAWSX)},  # English, where nothing was translated
        ),
        metrics=("accuracy",),
        hub=Hub("google-research-datasets/paws-x", "{variant}"),
        labels={"0": "different_meaning", "1": "paraphrase"},
        variants=("de", "en", "es", "fr", "ja", "ko", "zh"),
    ),
    "banking77": Benchmark(
        task="classify",
        columns={"text": ("text",), "label": ("category", "label")},
        layouts=(
            {
                "train": File("banking_data/train.csv", layouts.comma),
                "test": File("banking_data/test.csv", layouts.comma),
            },
        ),
        metrics=("accuracy",),
        hub=Hub("legacy-datasets/banking77"),
        note="the release has no validation rows",
    ),
    **REASONING,
    **STRUCTURED,
}


def check_data_dir(data_dir: str | None, sources: Sequence[Any]) -> None:
    """Refuses a directory for the files of a benchmark where no rows are those of one.

    Args:
        data_dir: The directory, if one is given.
        sources: The rows of all parts as the user gave them; the first is train.

    Raises:
        RecipeError: Names the directory, and the benchmark that may be meant.
    """
    is_given = all(source is None or isinstance(source, str | Path | int | float) for source in sources)
    if data_dir is not None and is_given and not any(is_name(source) for source in sources):
        raise RecipeError(
            f"data_dir: found {data_dir!r}, but no rows are those of a benchmark, as glue:sst2."
            f"{did_you_mean(sources[0] or '', names())} Leave data_dir out, or name a benchmark."
        )
