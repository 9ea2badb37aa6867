"""Rows of unequal length for every task, and the gradients of one update of all of them, cut up in several ways.

Run as a program, it prints for each name how far one batch and batches of 4 on several devices are apart in `trained`:

    python tests/one_update.py ENCODER DISTRIBUTE NAME…
"""

import json
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

from kft import dataset, job
from kft.data import batches, feed
from kft.recipe import Recipe
from kft.training import devices, loop
from kft.training.accumulation import update_totals

WORDS = [*("the", "parcel", "is", "late", "when", "you", "can", "my"), *("lamp", "was", "lost", "today", "tea", "soup")]
LENGTHS = [2, 17, 4, 9, 3, 13, 5, 7, 2, 11, 6, 15, 3, 8, 4, 10]


def texts(seed=0):
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, length)) for length in LENGTHS]


def spans(text, number):
    """None in some rows, two in others."""
    words = text.split()
    found, start = [], 0
    for place, word in enumerate(words):
        if place < number % 3:
            found.append({"start": start, "end": start + len(word), "label": "AB"[place]})
        start += len(word) + 1
    return found


def rows_of(name):
    """16 rows, some of them long and some short."""
    text, other, third = texts(), texts(1), texts(2)
    number = range(16)
    rare = ["b" if i in (1, 4) else "a" for i in number]
    first, last = [t.split()[0] for t in other], [t.split()[-1] for t in other]
    columns = {
        "classify": {"text": text, "label": rare},
        "fewshot": {"text": text, "label": rare},
        "relate": {"text": [f"<e1>{t}</e1> is <e2>{o}</e2>" for t, o in zip(text, other, strict=True)], "label": rare},
        "multilabel": {"text": text, "label": [["a"] * (i % 2) + ["b"] * (i % 3 > 0) for i in number]},
        "ordinal": {"text": text, "label": [str(1 + i % 4) for i in number]},
        "regress": {"text": text, "label": [float(i * i) for i in number]},
        "choose": {
            "text": text,
            "choices": [list(pair) for pair in zip(other, third, strict=True)],
            "label": [str(i % 2) for i in number],
        },
        "tag": {"text": text, "spans": [spans(t, i) for i, t in enumerate(text)]},
        "joint": {"text": text, "spans": [spans(t, i) for i, t in enumerate(text)], "label": rare},
        "extract": {
            "text": text,
            "events": [
                [{"type": "x", "trigger": s, "arguments": [{**s, "role": "y"}]} for s in spans(t, i)]
                for i, t in enumerate(text)
            ],
        },
        "answer": {"question": first, "context": other, "answers": [[w] if i % 4 else [] for i, w in enumerate(last)]},
        "embed": {"text": text, "text_pair": other, "label": [i / 15 for i in number]},
        "triplet": {"text": text, "text_pair": other, "negative": third},
        "ranking": {"text": text, "text_pair": other},
        "generate": {"prompt": text, "response": other},
        "packed": {"prompt": text, "response": other},
        "mlm": {"text": text},
        "clm": {"text": [f"{a} {b} {c}" for a, b, c in zip(text, other, third, strict=True)]},
        "nsp": {"text": [f"{a}. {b}." for a, b in zip(text, other, strict=True)]},
        "sop": {"text": [f"{a}. {b}." for a, b in zip(text, other, strict=True)]},
    }[name]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


DECODERS = ("generate", "packed", "clm")
KNOBS = {
    "classify": {"class_weights": {"a": 1.0, "b": 20.0}},
    "triplet": {"task": "embed", "contrastive": "triplet"},
    "ranking": {"task": "embed"},
    "generate": {"max_new_tokens": 16},
    "packed": {"task": "generate", "packing": True, "max_new_tokens": 16},
    **{name: {"task": "pretrain", "pretrain_objective": name} for name in ("mlm", "clm", "nsp", "sop")},
}
BY_ROW = ("classify", "relate", "multilabel", "ordinal", "regress", "choose", "joint", "answer", "embed", "triplet")
BY_TOKEN = ("tag", "extract", "generate", "packed", "mlm", "clm", "nsp", "sop")
IN_BATCH = ("ranking", "fewshot")
SMALL = {"num_layers": 1, "hidden_dim": 16, "num_heads": 2}


def prepared(name, encoder, chosen=None, **knobs):
    """The job of a task on these devices, without dropout; `encoder` is the preset of those that need one."""
    sizes = {"preset": "scratch:gpt2", "vocabulary_size": 300, **SMALL} if name in DECODERS else {"preset": encoder}
    asked = {
        "task": name,
        "validation": 0.0,
        "precision": "float32",
        "epochs": 1,
        "max_grad_norm": 0.0,
        **sizes,
    }
    recipe = Recipe.of(**{**asked, "max_length": 24 if name == "clm" else 64, **KNOBS.get(name, {}), **knobs})
    chosen = chosen or devices.choose("none", "float32")
    data = dataset.gather(recipe, rows_of(name), 0.0, None)
    made = job.build(recipe, data, chosen)
    for layer in made.trainer.network._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return made


def gradient(made, size, accumulated=1, pieces=1, devices=1, fixed_lengths=()):
    """The gradient of one update of all rows as one vector, by the feed and the loss of a job, on TensorFlow."""
    import tensorflow as tf

    stream, objective, network = made.streams["train"], made.trainer.objective, made.trainer.network
    planned = batches.plan(stream.store.lengths, size, multiple_of=devices, fixed_lengths=fixed_lengths)
    assert accumulated >= len(planned)
    totals = {
        term.name: update_totals(planned, stream.expected_weights(term.name), accumulated) for term in objective.terms
    }
    fed = feed.to_train(
        {"train": stream},
        [{"train": batch} for batch in planned],
        list(network.input),
        totals,
        {term.name: "train" for term in objective.terms},
        epoch=0,
        pieces=pieces,
        multiple_of=devices,
    )
    sums = [np.zeros(variable.shape) for variable in network.trainable_variables]
    for features, truth, shares in (fed[i] for i in range(len(fed))):
        for part in np.split(np.arange(len(next(iter(shares.values())))), devices):
            with tf.GradientTape() as tape:
                inputs = {key: tf.constant(value[part]) for key, value in features["train"].items()}
                own = {key: tf.constant(value[part]) for key, value in truth["train"].items()}
                outputs = network(inputs, training=True)
                loss = sum(term.of_batch(outputs, own, shares[term.name][part]) for term in objective.terms)
            found = tape.gradient(loss, [variable.value for variable in network.trainable_variables])
            sums = [
                s if g is None else s + np.asarray(tf.convert_to_tensor(g)) for s, g in zip(sums, found, strict=True)
            ]
    return np.concatenate([values.ravel() for values in sums])


def trained(name, encoder, chosen, size):
    """The first moments after one update of all rows in batches of this size: a tenth of the gradient."""
    with chosen.scope():
        made = prepared(name, encoder, chosen, batch_size=size, gradient_accumulation_steps=1000)
        trainer = made.trainer
        with tempfile.TemporaryDirectory() as folder:
            rows = {"train": made.streams["train"]}
            loop.train(trainer, rows, run_dir=Path(folder), validate=None, best_by="loss", quiet=True)
        adam = trainer.learner.optimizer
        assert int(keras.ops.convert_to_numpy(adam.iterations)) == 1
        return np.concatenate([keras.ops.convert_to_numpy(moment).ravel() for moment in adam._momentums])


def difference(found, expected):
    """The norm of the difference over that of what is expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


if __name__ == "__main__":
    encoder, distribute, *names = sys.argv[1:]
    # Several devices come first: a CPU is split only before it is used.
    several, alone = (devices.choose(kind, "float32") for kind in (distribute, "none"))
    told = {}
    for name in names:
        told[name] = difference(trained(name, encoder, several, 4), trained(name, encoder, alone, 32))
        print(name, told[name], file=sys.stderr, flush=True)
        keras.backend.clear_session()
    print(json.dumps(told))
