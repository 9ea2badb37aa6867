"""What the tokenizer's files of a Hugging Face directory say, as settings of kft's; refused where kft cannot do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kft.accelerate.internals import check_file_exists, get_file
from kft.errors import PresetError, quoted
from kft.models.hugging_face import files_of
from kft.models.preset_files import read_json, refuse_pointer
from kft.text.rules import Added, Normalizer, Split

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLITS: dict[str, Split] = {LLAMA3_SPLIT: "llama3", LLAMA3_SPLIT.replace("{1,3}", ""): "qwen2"}
# Those that read texts as their model type says; others, such as those of Japanese, cut words in ways of their own.
TOKENIZER_CLASSES = (
    "AlbertTokenizer",
    "BartTokenizer",
    "BertTokenizer",
    "DistilBertTokenizer",
    "GPT2Tokenizer",
    "RobertaTokenizer",
    "XLMRobertaTokenizer",
)


class Files:
    """The tokenizer's files of a Hugging Face directory.

    Attributes:
        handle: Where they are.
        model_type: Of config.json.
        settings: The content of tokenizer_config.json; empty without one.
        pipeline: The content of tokenizer.json, or None.
    """

    def __init__(self, handle: str, config: Mapping[str, Any]):
        self.handle = handle
        self.model_type = str(config.get("model_type"))
        self.settings = read_json(handle, "tokenizer_config.json") or {}
        self.pipeline = read_json(handle, "tokenizer.json")
        name = str(self.settings.get("tokenizer_class") or "").removesuffix("Fast")
        if self.pipeline is None and name and name not in TOKENIZER_CLASSES:
            expected = f"one of {', '.join(TOKENIZER_CLASSES)}, or a tokenizer.json beside it"
            raise self.refusal("tokenizer_config.json", "tokenizer_class", name, expected)
        if self.pipeline is None and self.settings.get("do_basic_tokenize") is False:
            raise self.refusal("tokenizer_config.json", "do_basic_tokenize", False, "true")

    def path(self, name: str) -> Path | None:
        """A file by its name, or None where there is none."""
        if not check_file_exists(self.handle, name):
            return None
        path = get_file(self.handle, name)
        refuse_pointer(path)
        return Path(path)

    def part(self, name: str) -> dict[str, Any]:
        """A part of tokenizer.json; empty where it is null."""
        return dict((self.pipeline or {}).get(name) or {})

    def refusal(self, file: str, setting: str, found: Any, expected: str) -> PresetError:
        """What cannot be done, in the form of all such messages."""
        return PresetError(
            f"preset {self.handle}, {file}: {setting}: found {quoted(found)}, expected {expected}. Tokens would not be "
            "those that the model was trained on; choose another preset."
        )

    def added(self, ids: Mapping[str, int], special: Sequence[str], has_normalizers: bool) -> tuple[Added, ...]:
        """The tokens that are found in texts themselves: those of the files, else the model's special ones."""
        entries, file = (self.pipeline or {}).get("added_tokens"), "tokenizer.json"
        if entries is None:
            decoder, file = self.settings.get("added_tokens_decoder"), "tokenizer_config.json"
            entries = [{"id": int(number), **entry} for number, entry in decoder.items()] if decoder else None
        if entries is None:
            left = "<mask>"  # RoBERTa's takes the space before it
            return tuple(Added(name, ids[name], name == left) for name in special if name in ids)
        found = []
        for entry in entries:
            content = entry["content"]
            if not content:
                raise self.refusal(file, "added_tokens: content", content, "a text")
            if entry.get("single_word"):
                raise self.refusal(file, f"added_tokens {quoted(content)}: single_word", True, "false")
            if has_normalizers and entry.get("normalized") and not entry.get("special"):
                raise self.refusal(file, f"added_tokens {quoted(content)}: normalized", True, "false")
            found.append(Added(content, entry["id"], bool(entry.get("lstrip")), bool(entry.get("rstrip"))))
        return tuple(found)

    def normalizers(self) -> list[dict[str, Any]]:
        """The steps of tokenizer.json's normalizer, one after another."""
        return _flat(self.part("normalizer"), "normalizers")

    def pre_tokenizers(self) -> list[dict[str, Any]]:
        """Likewise of its pre_tokenizer."""
        return _flat(self.part("pre_tokenizer"), "pretokenizers")


def _flat(part: dict[str, Any], name: str) -> list[dict[str, Any]]:
    if not part:
        return []
    return [step for inner in part.get(name, []) for step in _flat(inner, name)] if name in part else [part]


def no_vocabulary(files: Files, expected: str) -> PresetError:
    """The refusal of a directory without its vocabulary."""
    return PresetError(
        f"preset {files.handle}: found {files_of(files.handle)}, expected {expected} with the vocabulary. Copy it from "
        "where the model came from."
    )


def word_piece_settings(files: Files) -> tuple[bool, bool, bool, bool]:
    """Lower case, accents stripped, Chinese characters apart, control characters dropped; from both files."""
    given = files.settings
    names = {
        "do_lower_case": "lowercase",
        "strip_accents": "strip_accents",
        "tokenize_chinese_chars": "handle_chinese_chars",
    }
    if files.pipeline is None:
        if not isinstance(given.get("do_lower_case"), bool):
            raise PresetError(
                f"preset {files.handle}, tokenizer_config.json: do_lower_case: found "
                f"{quoted(given.get('do_lower_case'))}, expected true or false, and no tokenizer.json says it. "
                'Write {"do_lower_case": true} for an uncased model, false for a cased one.'
            )
        lower = given["do_lower_case"]
        accents = given.get("strip_accents")
        return lower, lower if accents is None else bool(accents), bool(given.get("tokenize_chinese_chars", True)), True
    steps, splits = files.normalizers(), files.pre_tokenizers()
    if [step.get("type") for step in steps] != ["BertNormalizer"]:
        raise files.refusal("tokenizer.json", "normalizer", [step.get("type") for step in steps], "BertNormalizer")
    if [step.get("type") for step in splits] != ["BertPreTokenizer"]:
        raise files.refusal(
            "tokenizer.json", "pre_tokenizer", [step.get("type") for step in splits], "BertPreTokenizer"
        )
    found = steps[0]
    lower = bool(found.get("lowercase", True))
    accents = lower if found.get("strip_accents") is None else bool(found["strip_accents"])
    effective = {
        "lowercase": lower,
        "strip_accents": accents,
        "handle_chinese_chars": found.get("handle_chinese_chars", True),
    }
    for ours, theirs in names.items():
        value = given.get(ours)
        if value is not None and bool(value) != effective[theirs]:
            raise PresetError(
                f"preset {files.handle}: tokenizer_config.json has {ours}: {quoted(value)}, tokenizer.json has "
                f"{theirs}: {effective[theirs]!r}. Expected the same in both; mend the one that is wrong."
            )
    return lower, accents, bool(effective["handle_chinese_chars"]), bool(found.get("clean_text", True))


def word_piece_vocabulary(files: Files) -> list[str]:
    """The tokens of vocab.txt or tokenizer.json, which agree, in the order of their ids."""
    path, model = files.path("vocab.txt"), files.part("model")
    listed = None
    if path is not None:
        listed = path.read_text(encoding="utf-8").replace("\r\n", "\n").removesuffix("\n").split("\n")
    if files.pipeline is None:
        if listed is None:
            raise no_vocabulary(files, "vocab.txt or tokenizer.json")
        return listed
    if model.get("type", "WordPiece") != "WordPiece":
        raise files.refusal("tokenizer.json", "model.type", model.get("type"), "WordPiece")
    ids = {**model["vocab"], **{entry["content"]: entry["id"] for entry in files.pipeline.get("added_tokens", [])}}
    by_id = _by_id(files, ids)
    if listed is not None and listed != by_id[: len(listed)]:
        place = next((i for i, pair in enumerate(zip(listed, by_id, strict=False)) if pair[0] != pair[1]), len(by_id))
        raise PresetError(
            f"preset {files.handle}: token {place} is {quoted(listed[place])} in vocab.txt and "
            f"{quoted(by_id[place] if place < len(by_id) else None)} in tokenizer.json; expected the same in both."
        )
    return by_id


def _by_id(files: Files, ids: Mapping[str, int]) -> list[str]:
    """The tokens in the order of their ids, which have no gap."""
    by_id = {number: token for token, number in ids.items()}
    for number in range(len(by_id)):
        if number not in by_id:
            raise files.refusal("tokenizer.json", "model.vocab", f"no token of id {number}", "ids without a gap")
    return [by_id[number] for number in range(len(by_id))]


def byte_pair_settings(files: Files) -> tuple[Split, bool, tuple[Normalizer, ...]]:
    """How words are cut, whether a space is put before the text, and what is done to it before."""
    given = files.settings.get("add_prefix_space")
    if files.pipeline is None:
        return "gpt2", bool(given), ()
    changes: list[Normalizer] = []
    for step in files.normalizers():
        if step.get("type") != "NFC":
            raise files.refusal("tokenizer.json", "normalizer", step.get("type"), "NFC or none")
        changes.append("nfc")
    steps = files.pre_tokenizers()
    kinds = [step.get("type") for step in steps]
    last = steps[-1] if steps else {}
    prefix = bool(last.get("add_prefix_space"))
    split: Split | None = None
    if kinds == ["ByteLevel"] and last.get("use_regex", True):
        split = "gpt2"
    elif (
        kinds == ["Digits", "ByteLevel"]
        and steps[0].get("individual_digits")
        and last.get("use_regex", True)
        and not prefix
    ):
        split = "gpt2_digits"
    elif kinds == ["Split", "ByteLevel"] and not last.get("use_regex", True) and not prefix:
        is_plain = steps[0].get("behavior") == "Isolated" and not steps[0].get("invert")
        split = SPLITS.get(dict(steps[0].get("pattern", {})).get("Regex", "")) if is_plain else None
    if split is None:
        raise files.refusal("tokenizer.json", "pre_tokenizer", steps, "that of GPT-2, Llama 3, Qwen 2 or SmolLM 2")
    if given is not None and bool(given) != prefix:
        raise PresetError(
            f"preset {files.handle}: tokenizer_config.json has add_prefix_space: {quoted(given)}, tokenizer.json has "
            f"{prefix!r}. Expected the same in both; mend the one that is wrong."
        )
    return split, prefix, tuple(changes)


def sentence_piece_changes(files: Files) -> tuple[Normalizer, ...]:
    """What is done to a text before the SentencePiece model, which has a normalizer of its own.

    ALBERT's steps are those of its authors' code, also where tokenizer.json has what comes near: `str.split` takes the
    control characters U+001C to U+001F and U+0085 as spaces, and accents are told by their combining class.
    """
    is_albert = files.model_type == "albert"
    spaces: list[Normalizer] = ["spaces"] if is_albert and files.settings.get("remove_space", True) else []
    if files.pipeline is None:
        if not is_albert:
            return ()
        given = files.settings
        changes: list[Normalizer] = ["quotes", *spaces]
        changes += [] if given.get("keep_accents", False) else ["nfkd", "combining"]
        changes += ["lower"] if given.get("do_lower_case", True) else []
        return tuple(changes)
    found: list[Normalizer] = []
    for step in files.normalizers():
        kind = step.get("type")
        pattern = dict(step.get("pattern") or {})
        if kind == "Replace" and pattern.get("String") in ("``", "''") and step.get("content") == '"':
            found += [] if "quotes" in found else ["quotes"]
        elif kind in ("NFKD", "NFKC", "NFC", "NFD"):
            found.append(kind.lower())
        elif kind == "StripAccents":
            found.append("combining" if is_albert else "marks")
        elif kind == "Lowercase":
            found.append("lower")
        elif kind == "Precompiled" or (kind == "Replace" and pattern.get("Regex") == " {2,}") or kind == "Strip":
            continue  # the SentencePiece model does that itself
        else:
            raise files.refusal("tokenizer.json", "normalizer", step, "those of ALBERT or XLM-RoBERTa")
    kinds = [step.get("type") for step in files.pre_tokenizers()]
    if kinds not in (["Metaspace"], ["WhitespaceSplit", "Metaspace"]):
        raise files.refusal("tokenizer.json", "pre_tokenizer", kinds, "Metaspace")
    return (*found[:1], *spaces, *found[1:]) if found[:1] == ["quotes"] else (*spaces, *found)
