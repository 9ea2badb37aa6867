"""`kft demo`: the whole line of the product in one go, on messages that come with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

import kft
from kft import demo
from kft.errors import RunError, ServeError
from kft.evaluation import baselines
from serve.client import Client

KNOBS: dict[str, Any] = {"label": "topic", "test": 0.2, "epochs": 5, "batch_size": 16}
QUESTIONS = (
    "My parcel says delivered, but there is nothing at my door.",
    "You took the money twice for one lamp.",
    "Will the reading lamp fit a 2 cm shelf?",
)


def tell(out: Path) -> None:
    """Fits, compares, exports, serves and asks; prints each step on standard output.

    Raises:
        RunError: `out` exists already.
    """
    if out.exists():
        raise RunError(f"{out} exists already. Remove it, or choose another --out.")
    began = time.monotonic()
    click.echo(f"1. fit MiniLM on {demo.MESSAGES.name}: which topic is a customer's message about?")
    run = kft.fit(demo.MESSAGES, out=str(out), **KNOBS)

    click.echo("\n2. compare, on the same test rows")
    parts = kft.check(demo.MESSAGES, **KNOBS).parts
    labels = run.labels["labels"]
    columns = [(parts[name].texts("text"), parts[name].texts("label")) for name in ("train", "test")]
    (texts, topics), (test_texts, test_topics) = columns
    found = {
        "majority": baselines.majority(topics, test_topics, labels=labels),
        "bag of words": baselines.bag_of_words(texts, topics, test_texts, test_topics, 0, labels=labels),
        "MiniLM": run.metrics["test"],
    }
    for name, metrics in found.items():
        click.echo(f"   {name:14} accuracy {metrics['accuracy']:.3f}   macro F1 {metrics['macro_f1']:.3f}")

    click.echo("\n3. export")
    version = run.export(Path("saved_models", "demo"))
    click.echo(f"   {version}, reloaded in a fresh process: same answers as predict")

    click.echo("\n4. serve and ask over HTTP")
    for question, answer in zip(QUESTIONS, _ask(version.parent), strict=True):
        click.echo(f"   {question}\n      -> {json.dumps(answer, ensure_ascii=False)}")
    click.echo(f"\nreport: {out / 'report.html'}\ntook {time.monotonic() - began:.0f} s")


def _ask(model_dir: Path) -> list[dict[str, Any]]:
    """The answers of a server of its own process to the questions: topic and score."""
    # With -P the user's folder is not on the path of modules; kft may be, by where this process has found it.
    command = [sys.executable, "-P", "-m", "kft.cli", "serve", str(model_dir.parent), "--port", "0"]
    path = os.pathsep.join([str(Path(kft.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stdout is not None
            line = next((line for line in server.stdout if "http://" in line), "")
            if not line:
                raise ServeError("the server ended before it served; see its message above.")
            click.echo(f"   {line.strip()}")
            with Client(line.split()[-1]) as client:
                answers = client.predict(model_dir.name, list(QUESTIONS))
        finally:
            server.terminate()
    return [{"label": answer["label"], "score": round(answer["score"], 3)} for answer in answers]
