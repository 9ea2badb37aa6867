"""Token ids and offsets by kft beside those of the `tokenizers` library, on the same Hugging Face directories.

    python benchmarks/tokenizers_agree.py DATA_DIR [LINES]

DATA_DIR holds vocabularies (`vocab_bert_uncased/vocab.txt` and the like) and text files of several languages. Each
configuration is a directory of Hugging Face, written anew; other vocabularies are trained on the lines. A line that
differs is counted and the first few are shown. Of SentencePiece, lines are compared with the authors' code as well
(`authors_tokens.py`), and where they are cut otherwise, but as likely by the model, they are counted apart, as ties.
The exit status is 1 where ids differ from the authors' otherwise, or from the library's where there is no such code.
"""

from __future__ import annotations

import functools
import io
import itertools
import json
import random
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import authors_tokens
import keras_hub
import sentencepiece
import tensorflow as tf
import tokenizers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers, trainers

from kft.models import original_tokenizers, tokenizer_files
from kft.text import offsets, rules

SHOWN = 3
SPACES = ("\u2581", "\u0120")
BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
FILES = ("*.txt", "*.tsv", "*.csv", "*.conll", "*.json", "*.jsonl", "weiboNER*", "SMSSpam*")
ODD = [
    "na\u00efve caf\u00e9 Z\u00fcrich Pok\u00e9mon \u0130stanbul \u039f\u0394\u039f\u03a3 stra\u00dfe",
    "STRASSE \ufb01n \u00b2 \u2026",
    "e\u0301 n\u0303 a\u0308\u0323 \u1112\u1161\u11ab \ud55c\uad6d\uc5b4 \u304b\u3099 \u304c \uff76\uff9e",
    "soft\u00adhyphen zero\u200bwidth non\u200cjoiner wi\u2060de \ufeffbom ctrl\x07bell \x85next",
    "nb\u00a0sp  two   three\u3000wide\u2003em\u2009thin \t tab \r\n line\n\n lines  ",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f",
    "\u270c\U0001f3fd \U0001f600\U0001f600",
    "[CLS] a [SEP] b[MASK]c [mask] <s>x</s> y <mask> z <pad> <unk> <|endoftext|>d <|eot_id|> e",
    "\u0966\u096c\u096d \u0667\u0668 12345 6,789.00 \u00bd \u2167 3rd",
    "don't I'LL we've 'tis  's a  's \t's \n'd o'clock",
    "``quoted'' ''x`` \u2018a\u2019 \u201cb\u201d \u2013 \u2014 $5 a+b=c ^_^ #tag @me",
    "\u4e2d\u6587\u548cEnglish\u6df7\u5408\uff0c\u5168\u89d2\uff11\uff12\uff21\uff42\u3002",
    "\u65e5\u672c\u8a9e\u30c6\u30b9\u30c8 \u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22",
    "a" * 120 + " " + "\u0e01" * 60 + " " + "\u0e01" * 101 + " b",
    "   leading and trailing   ",
    "",
    " ",
]


def lines_of(folder: Path, count: int) -> list[str]:
    """`count` lines, in turn from every text file under a folder, each file from a place of its own."""
    paths = sorted({path for pattern in FILES for path in folder.rglob(pattern) if "vocab" not in str(path)})
    readers = [_lines(path) for path in paths]
    found = [line for group in itertools.zip_longest(*readers) for line in group if line]
    random.Random(0).shuffle(found)
    return found[:count]


def _lines(path: Path) -> Iterator[str]:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    picked = [line[:600] for line in lines if line.strip()]
    return iter(random.Random(path.name).sample(picked, min(400, len(picked))))


# -- the configurations --------------------------------------------------------------------------------------------


def bert(folder: Path, vocabulary: list[str], *, pipeline: bool = True, listed: bool = True, **settings: Any) -> Any:
    """A BERT directory with the given settings of BertNormalizer."""
    ids = {token: number for number, token in enumerate(vocabulary)}
    library = tokenizers.Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    library.normalizer = normalizers.BertNormalizer(**settings)
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.add_special_tokens(BERT_SPECIAL)
    given = {"do_lower_case": settings["lowercase"], "strip_accents": settings.get("strip_accents")}
    given["tokenize_chinese_chars"] = settings.get("handle_chinese_chars", True)
    write(folder, "bert", library if pipeline else None, given)
    if listed:
        (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    return library


def byte_pair(folder: Path, model_type: str, vocabulary: dict[str, int], merges: list[Any], **settings: Any) -> Any:
    """A directory of byte-level BPE."""
    special, split = settings.get("special", []), settings.get("split")
    for token in special:
        vocabulary.setdefault(token, len(vocabulary))
    library = tokenizers.Tokenizer(models.BPE(vocabulary, merges, ignore_merges=settings.get("ignore_merges", False)))
    prefix = settings.get("prefix", False)
    steps = [pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=not isinstance(split, Regex))]
    if split is not None:
        first = pre_tokenizers.Digits(individual_digits=True)
        steps.insert(0, pre_tokenizers.Split(split, "isolated") if isinstance(split, Regex) else first)
    library.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]
    if settings.get("nfc"):
        library.normalizer = normalizers.NFC()
    library.add_special_tokens([AddedToken(token, lstrip=token == "<mask>") for token in special])
    given = {"bos_token": special[0], "eos_token": special[-1]} if special else {}
    write(folder, model_type, library if settings.get("pipeline", True) else None, given)
    if settings.get("listed"):
        (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        lines = [pair if isinstance(pair, str) else " ".join(pair) for pair in merges]
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return library


def unigram(folder: Path, model_type: str, proto: bytes, before: list[Any], *, pipeline: bool = True) -> Any:
    """A directory with a SentencePiece model, and the library's tokenizer as transformers converts it."""
    parsed = sentencepiece_model_pb2.ModelProto.FromString(proto)
    pieces = [(piece.piece, piece.score) for piece in parsed.pieces]
    special, unknown = ["[CLS]", "[SEP]", "<pad>", "<unk>", "[MASK]"], parsed.trainer_spec.unk_id
    if model_type == "xlm-roberta":
        special = [*ROBERTA_SPECIAL, "<mask>"]
        pieces = [*((name, 0.0) for name in ROBERTA_SPECIAL), *pieces[3:], ("<mask>", 0.0)]
        unknown = 3
    library = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=unknown, byte_fallback=False))
    charsmap = parsed.normalizer_spec.precompiled_charsmap
    steps = [*before, normalizers.Precompiled(charsmap), normalizers.Replace(Regex(" {2,}"), " ")]
    library.normalizer = normalizers.Sequence(steps)
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    masks = ("[MASK]", "<mask>")
    library.add_special_tokens([AddedToken(name, lstrip=name in masks, normalized=False) for name in special])
    is_lower = any(isinstance(step, normalizers.Lowercase) for step in before)
    given = {"do_lower_case": is_lower, "keep_accents": not any(isinstance(s, normalizers.NFKD) for s in before)}
    write(folder, model_type, library if pipeline else None, given)
    (folder / ("spiece.model" if model_type == "albert" else "sentencepiece.bpe.model")).write_bytes(proto)
    return library


def write(folder: Path, model_type: str, library: Any, settings: dict[str, Any]) -> None:
    """The JSON files of a directory."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if library is not None:
        library.save(str(folder / "tokenizer.json"))


def trained_pieces(lines: list[str], *, lowercase: bool) -> list[str]:
    """A WordPiece vocabulary of the lines."""
    library = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer(lowercase=lowercase, handle_chinese_chars=False)
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=12_000, special_tokens=BERT_SPECIAL, show_progress=False)
    library.train_from_iterator((line for line in lines if line not in ODD), trainer)
    vocabulary = library.get_vocab()
    return sorted(vocabulary, key=lambda token: vocabulary[token])


def trained_pairs(lines: list[str], pattern: str) -> tuple[dict[str, int], list[Any]]:
    """A byte-level vocabulary of the lines and its merges."""
    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    library.train_from_iterator(
        lines, trainers.BpeTrainer(vocab_size=8_000, initial_alphabet=alphabet, show_progress=False)
    )
    model = json.loads(library.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def trained_unigram(lines: list[str]) -> bytes:
    """A SentencePiece model of the lines."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=8_000,
        character_coverage=0.9995,
        hard_vocab_limit=False,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        minloglevel=2,
    )
    return model.getvalue()


def configurations(data: Path, root: Path, lines: list[str]) -> Iterator[tuple[str, Path, Any]]:
    """Name, directory and the library's own tokenizer."""
    uncased = (data / "vocab_bert_uncased" / "vocab.txt").read_text(encoding="utf-8").split("\n")[:30522]
    chinese = (data / "vocab_bert_chinese" / "vocab.txt").read_text(encoding="utf-8").split("\n")[:21128]
    cased, lower = (trained_pieces(lines, lowercase=is_lower) for is_lower in (False, True))
    gpt2 = json.loads((data / "vocab_gpt2" / "encoder.json").read_text(encoding="utf-8"))
    lines_of_merges = (data / "vocab_gpt2" / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:]
    merges = [tuple(line.split(" ")) for line in lines_of_merges if line]
    pattern = tokenizer_files.LLAMA3_SPLIT
    pairs = trained_pairs(lines, pattern)
    albert = (data / "vocab_albert" / "spiece.model").read_bytes()
    multilingual = trained_unigram(lines)
    quotes = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    accents = [normalizers.NFKD(), normalizers.StripAccents()]
    roberta = {"special": [*ROBERTA_SPECIAL, "<mask>"], "listed": True}
    makers = {
        "bert uncased": lambda path: bert(path, uncased, lowercase=True),
        "bert uncased, vocab.txt alone": lambda path: bert(path, uncased, lowercase=True, pipeline=False),
        "bert cased": lambda path: bert(path, cased, lowercase=False),
        "bert uncased, accents kept": lambda path: bert(path, lower, lowercase=True, strip_accents=False),
        "bert cased, accents stripped": lambda path: bert(path, cased, lowercase=False, strip_accents=True),
        "bert chinese": lambda path: bert(path, chinese, lowercase=True),
        "bert, Chinese unsplit": lambda path: bert(path, lower, lowercase=True, handle_chinese_chars=False),
        "bert, tokenizer.json alone": lambda path: bert(path, uncased, lowercase=True, listed=False),
        "roberta": lambda path: byte_pair(path, "roberta", {**gpt2}, merges, **roberta),
        "roberta, prefix space": lambda path: byte_pair(path, "roberta", {**gpt2}, merges, prefix=True, **roberta),
        "gpt2": lambda path: byte_pair(path, "gpt2", {**gpt2}, merges, special=["<|endoftext|>"]),
        "gpt2, vocab.json alone": lambda path: byte_pair(
            path, "gpt2", {**gpt2}, merges, special=["<|endoftext|>"], listed=True, pipeline=False
        ),
        "llama 3": lambda path: byte_pair(
            path,
            "llama",
            {**pairs[0]},
            pairs[1],
            split=Regex(pattern),
            ignore_merges=True,
            special=["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"],
        ),
        "qwen 2": lambda path: byte_pair(
            path,
            "qwen2",
            {**pairs[0]},
            pairs[1],
            split=Regex(pattern.replace("{1,3}", "")),
            nfc=True,
            special=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        ),
        "smollm 2": lambda path: byte_pair(
            path, "gpt2", {**gpt2}, merges, split="digits", special=["<|endoftext|>", "<|im_start|>"]
        ),
        "albert": lambda path: unigram(path, "albert", albert, [*quotes, *accents, normalizers.Lowercase()]),
        "albert, spiece.model alone": lambda path: unigram(
            path, "albert", albert, [*quotes, *accents, normalizers.Lowercase()], pipeline=False
        ),
        "albert, cased, accents kept": lambda path: unigram(path, "albert", multilingual_albert(lines), quotes),
        "xlm-roberta": lambda path: unigram(path, "xlm-roberta", multilingual, []),
    }
    for number, (name, make) in enumerate(makers.items()):
        path = root / str(number)
        yield name, path, make(path)


def multilingual_albert(lines: list[str]) -> bytes:
    """A cased SentencePiece model with ALBERT's special pieces."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=8_000,
        character_coverage=0.9995,
        hard_vocab_limit=False,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        bos_piece="[CLS]",
        eos_piece="[SEP]",
        control_symbols="[MASK]",
        minloglevel=2,
    )
    return model.getvalue()


# -- the comparison ------------------------------------------------------------------------------------------------


def alike(text: str, ours: tuple[int, int], theirs: tuple[int, int]) -> bool:
    """Whether two spans are the same but for spaces at their edges, and marks or unseen characters at the end of ours.

    kft leaves a mark that a tokenizer drops to the letter before it, the library to none.
    """
    (start, end), (their_start, their_end) = (_without_spaces(text, *span) for span in (ours, theirs))
    if text[start:end] in ("``", "''"):  # one token, of which the library gives the second character
        return end == their_end
    return start == their_start and all(unicodedata.category(text[i])[0] in "MC" for i in range(their_end, end))


def _without_spaces(text: str, start: int, end: int) -> tuple[int, int]:
    seen = [place for place in range(start, end) if not text[place].isspace() and text[place] not in "\u200b\ufeff"]
    return (seen[0], seen[-1] + 1) if seen else (start, end)


def compare(name: str, folder: Path, library: Any, lines: list[str]) -> int:
    """Prints one line; the number of lines whose ids are wrong."""
    config = json.loads((folder / "config.json").read_text())
    classes = {"bert": "Bert", "roberta": "Roberta", "gpt2": "GPT2", "llama": "Llama3", "qwen2": "Qwen"}
    classes |= {"albert": "Albert", "xlm-roberta": "XLMRoberta"}
    tokenizer_class = getattr(keras_hub.tokenizers, f"{classes[config['model_type']]}Tokenizer")
    tokenizer = original_tokenizers.of_hugging_face(str(folder), tokenizer_class, config)
    read = tf.function(
        lambda texts: offsets.tokenize(tokenizer, texts), input_signature=[tf.TensorSpec((None,), tf.string)]
    )
    encoded = library.encode_batch(lines, add_special_tokens=False)
    authors, is_tie = None, None
    if config["model_type"] in ("albert", "xlm-roberta"):
        given = json.loads((folder / "tokenizer_config.json").read_text())
        authors = authors_tokens.reader(tokenizer.proto, config["model_type"], rules.of(tokenizer).added, given)
        shift = int(config["model_type"] == "xlm-roberta")
        is_tie = functools.partial(authors_tokens.is_tie, tokenizer.proto, shift=shift)
    differ, ties, wrong, moved, count = 0, 0, [], [], 0
    for start in range(0, len(lines), 256):
        part = lines[start : start + 256]
        found = [ragged.to_list() for ragged in read(tf.constant(part))]
        for text, ids, starts, ends, expected in zip(part, *found, encoded[start : start + 256], strict=True):
            count += len(expected.ids)
            differ += ids != expected.ids
            right = expected.ids if authors is None else authors(text)
            if ids != right:
                if is_tie is not None and is_tie(ids, right):
                    ties += 1
                else:
                    wrong.append((text, ids, right))
            if ids != expected.ids:
                continue
            spans = list(zip(expected.tokens, zip(starts, ends, strict=True), expected.offsets, strict=True))
            # A space that is a token by itself is that space here, and in the library the letter after it.
            other = [span for span in spans if span[0] not in SPACES and not alike(text, *span[1:])]
            if other:
                moved.append((text, *other[0]))
    tied = "-" if authors is None else ties
    print(f"{name:30} {len(lines):6} {count:8} {differ:8} {tied:>6} {len(wrong):6} {len(moved):8}", flush=True)
    for text, ids, expected in wrong[:SHOWN]:
        place = next(
            (i for i, (a, b) in enumerate(zip(ids, expected, strict=False)) if a != b), min(len(ids), len(expected))
        )
        pieces = [[library.id_to_token(number) for number in side[place : place + 4]] for side in (ids, expected)]
        print(f"    ids {text[:60]!r}: {pieces[0]} for {pieces[1]}")
    for text, token, ours, theirs in moved[:SHOWN]:
        print(f"    offsets {text[max(0, theirs[0] - 9) :][:30]!r}: {token} {ours} for {theirs}")
    return len(wrong)


def main(data: str, count: str = "2000") -> int:
    """The table."""
    lines = [line.replace("\0", "") for line in [*ODD, *lines_of(Path(data), int(count) - len(ODD))]]
    print(f"{'configuration':30} {'lines':>6} {'tokens':>8} {'library':>8} {'ties':>6} {'wrong':>6} {'offsets':>8}")
    with tempfile.TemporaryDirectory() as root:
        return sum(compare(*each, lines) for each in configurations(Path(data), Path(root), lines))


if __name__ == "__main__":
    sys.exit(1 if main(*sys.argv[1:]) else 0)
