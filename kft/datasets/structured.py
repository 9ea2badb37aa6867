"""The benchmarks whose rows are more than a text and a label: words with tags, answers in a context, choices."""

from kft.datasets import layouts
from kft.datasets.layouts import Benchmark, File, Hub, Made, Reader


def _files(read: Reader, *paths: str) -> dict[str, File]:
    """The files of train, validation and, where there is a third, test."""
    return {part: File(path, read) for part, path in zip(("train", "validation", "test"), paths, strict=False)}


def _copa_text(premise: str, question: str) -> str | None:
    return f"{premise} {COPA[question]}" if question in COPA else None


def _listed(*values: str) -> list[str]:
    return list(values)


COPA = {"cause": "What was the cause?", "effect": "What happened as a result?"}
ANSWER = {"question": ("question",), "context": ("context",), "answers": ("answers",)}
ENTITIES = {"words": ("words", "tokens"), "tags": ("tags", "ner_tags")}
TREEBANK = tuple(f"UD_*/{{variant}}-ud-{part}.conllu" for part in ("train", "dev", "test"))

STRUCTURED: dict[str, Benchmark] = {
    "superglue:copa": Benchmark(
        task="choose",
        columns={
            "text": Made(("premise", "question"), _copa_text),
            "choices": Made(("choice1", "choice2"), _listed),
            "label": ("label",),
        },
        layouts=(_files(layouts.jsonl, "COPA/train.jsonl", "COPA/val.jsonl"),),
        metrics=("accuracy",),
        hub=Hub("aps/super_glue", "copa"),
        labels={"0": "0", "1": "1"},
    ),
    "squad": Benchmark(
        task="answer",
        columns=ANSWER,
        layouts=(_files(layouts.squad, "train-v1.1.json", "dev-v1.1.json"),),
        metrics=("f1", "exact_match"),
        hub=Hub("rajpurkar/squad"),
    ),
    "squad_v2": Benchmark(
        task="answer",
        columns=ANSWER,
        layouts=(_files(layouts.squad, "train-v2.0.json", "dev-v2.0.json"),),
        metrics=("f1", "exact_match"),
        hub=Hub("rajpurkar/squad_v2"),
    ),
    "conll2003": Benchmark(
        task="tag",
        columns=ENTITIES,
        layouts=(
            _files(layouts.conll, "eng.train", "eng.testa", "eng.testb"),
            _files(layouts.conll, "train.txt", "valid.txt", "test.txt"),
        ),
        metrics=("entity_f1",),
        hub=Hub("eriktks/conll2003"),
    ),
    "wnut17": Benchmark(
        task="tag",
        columns=ENTITIES,
        layouts=(_files(layouts.conll, "wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"),),
        metrics=("entity_f1",),
        hub=Hub("leondz/wnut_17"),
    ),
    "ud:<treebank>": Benchmark(
        task="tag",
        columns={"words": ("words", "tokens"), "tags": ("upos",)},
        layouts=(
            _files(layouts.conllu, *TREEBANK),
            _files(layouts.conllu, *(f"{path}.gz" for path in TREEBANK)),
        ),
        metrics=("token_accuracy",),
        hub=Hub("universal-dependencies/universal_dependencies", "{variant}"),
        variants=("en_ewt",),
        variant_pattern="[a-z]+_[a-z]+",
    ),
}
