"""The peer on an accelerator: Hugging Face Trainer with torch.compile, SDPA, bfloat16 and fused AdamW.

    PEER_PYTHON benchmarks/peer_rate.py SIZE --rows 256 --tokens 128 --steps 40

Runs in an environment of its own (torch, transformers, accelerate); `gpu_rate.py` calls it. SIZE is JSON. Prints one
JSON line: device, examples_per_s, first_s. On a CPU it runs too, without torch.compile, to try the script.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from typing import Any

import torch
import transformers

WARM_STEPS = 5


class Rows(torch.utils.data.Dataset):
    """Random token ids and labels in memory."""

    def __init__(self, count: int, tokens: int):
        generator = torch.Generator().manual_seed(0)
        self.ids = torch.randint(1000, 30_522, (count, tokens), generator=generator)
        self.labels = torch.randint(0, 2, (count,), generator=generator)
        self.mask = torch.ones(tokens, dtype=torch.long)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.ids[index], "attention_mask": self.mask, "labels": self.labels[index]}


class Clock(transformers.TrainerCallback):
    """When the step that ends the warm-up, and the last one, were done on the device."""

    def __init__(self) -> None:
        self.times: dict[int, float] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step in (WARM_STEPS, state.max_steps):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.times[state.global_step] = time.perf_counter()


def main() -> None:
    """Trains and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("size", type=json.loads)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    has_gpu = torch.cuda.is_available()
    torch.set_float32_matmul_precision("high")
    began = time.perf_counter()
    transformers.set_seed(0)
    config = transformers.BertConfig(
        vocab_size=30_522,
        num_hidden_layers=options.size["num_layers"],
        num_attention_heads=options.size["num_heads"],
        hidden_size=options.size["hidden_dim"],
        intermediate_size=options.size["intermediate_dim"],
        num_labels=2,
    )
    config._attn_implementation = "sdpa"
    model = transformers.BertForSequenceClassification(config)
    steps, clock = WARM_STEPS + options.steps, Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder,
            per_device_train_batch_size=options.rows,
            max_steps=steps,
            learning_rate=1e-4,
            lr_scheduler_type="linear",
            warmup_steps=round(0.1 * steps),
            weight_decay=0.01,
            max_grad_norm=1.0,
            bf16=True,
            use_cpu=not has_gpu,
            torch_compile=has_gpu,
            optim="adamw_torch_fused",
            dataloader_num_workers=4 if has_gpu else 0,
            dataloader_drop_last=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        rows = Rows(options.rows * steps, options.tokens)
        transformers.Trainer(model, arguments, train_dataset=rows, callbacks=[clock]).train()
    seconds = clock.times[steps] - clock.times[WARM_STEPS]
    device = torch.cuda.get_device_name() if has_gpu else "cpu"
    print(
        json.dumps(
            {
                "device": f"{device} (torch {torch.__version__}, {model.config._attn_implementation})",
                "examples_per_s": options.rows * options.steps / seconds,
                "first_s": clock.times[WARM_STEPS] - began,
            }
        )
    )


if __name__ == "__main__":
    main()
