"""The peer: Hugging Face Trainer on the same weights and rows, at its good settings for this machine.

    PEER_PYTHON benchmarks/peer_trainer.py TRAIN.jsonl TEST.jsonl --weights DIR --out DIR [--bf16]

Runs in an environment of its own (torch, transformers, accelerate); `against_peer.py` calls it. Rows are
`{"text", "label"}`. Prints one JSON line: accuracy, train_s.
"""

from __future__ import annotations

import argparse
import json
import time

import torch
import transformers


class Rows(torch.utils.data.Dataset):
    """Tokenised rows in memory."""

    def __init__(self, rows: list[dict]):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        return self.rows[index]


def read(path: str) -> tuple[list[str], list[str]]:
    """Texts and labels of a JSONL file."""
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [row["text"] for row in rows], [row["label"] for row in rows]


def main() -> None:
    """Trains, scores, saves, prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    transformers.set_seed(options.seed)
    texts, labels = read(options.train)
    test_texts, test_labels = read(options.test)
    names = sorted(set(labels))
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.weights)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(options.weights, num_labels=len(names))

    def rows(texts: list[str], labels: list[str] | None) -> Rows:
        encoded = tokenizer(texts, truncation=True, max_length=128)
        made = [{key: encoded[key][i] for key in encoded} for i in range(len(texts))]
        for row, label in zip(made, labels or [], strict=False):
            row["labels"] = names.index(label)
        return Rows(made)

    steps = -(-len(texts) // 32) * options.epochs
    arguments = transformers.TrainingArguments(
        options.out,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=64,
        learning_rate=options.learning_rate,
        num_train_epochs=options.epochs,
        lr_scheduler_type="linear",
        warmup_steps=round(0.1 * steps),
        weight_decay=0.01,
        seed=options.seed,
        bf16=options.bf16,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        train_sampling_strategy="group_by_length",
    )
    trainer = transformers.Trainer(
        model,
        arguments,
        train_dataset=rows(texts, labels),
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )
    began = time.perf_counter()
    trainer.train()
    train_s = time.perf_counter() - began
    order = sorted(range(len(test_texts)), key=lambda i: -len(test_texts[i]))
    trainer.args.train_sampling_strategy = "random"
    found = trainer.predict(rows([test_texts[i] for i in order], None)).predictions.argmax(-1)
    right = sum(names[answer] == test_labels[i] for i, answer in zip(order, found, strict=True))
    trainer.save_model(options.out)
    print(json.dumps({"accuracy": right / len(test_texts), "train_s": train_s}))


if __name__ == "__main__":
    main()
