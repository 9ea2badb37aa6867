"""What an export must pass: `python -m kft.export.gates EXPORT_DIR PROBE_FILE` in a process without Keras and kft.

The model is loaded as TensorFlow Serving would, its warmup requests are replayed, and its answers to texts that have
broken tokenizers before are compared with those that `predict` gave.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TOLERANCE = 1e-5

NASTY = (
    "", " ", "\t\n\r", "a", "\u0000leading NUL", "NUL in\u0000side", "\ufeffBOM", "NBSP\u00a0here",
    "CRLF\r\nline",
    "ZWJ \u200d and ZWNJ \u200c", "emoji 😀👩‍👩‍👧‍👦🇿🇦", "中文没有空格", "日本語のテキスト", "한국어 문장",
    "العربية من اليمين",    "हिन्दी ६", "ไทยไม่มีช่องว่าง", "naïve café Ångström", "e\u0301 combining", "ﬁ ligature",
    "ＦＵＬＬ ｗｉｄｔｈ", "[CLS] [SEP] [PAD] [MASK]",
    "<s> </s> <pad> <unk>", "<|endoftext|>", "'\"`\\", "{\"json\": [1, 2]}", "<script>alert(1)</script>",
    "-1e309 NaN inf",
    "word " * 2000, "x" * 65536, "\u202egnol thgir", "\U0010ffff last code point",
)  # fmt: skip


def probe_texts(num_columns: int) -> list[list[str]]:
    """Rows of nasty texts, one for each text column of the model."""
    return [[NASTY[(i + shift * 7) % len(NASTY)] for shift in range(num_columns)] for i in range(len(NASTY))]


def check(export_dir: Path, probe: dict[str, Any]) -> float:
    """Loads an export, replays its warmup and compares its answers; returns the largest difference of a number.

    Raises:
        AssertionError: An op of Python or of XLA is in the graph, an answer differs, an output has the wrong shape, or
            columns of different lengths are not refused.
    """
    import numpy as np
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  (the ops of the tokenizers, which TF Serving links in too)

    _check_ops(export_dir)
    root = tf.saved_model.load(str(export_dir))
    signatures = root.signatures
    _replay(export_dir, signatures)
    predict = signatures["serving_default"]
    columns = {name: tf.constant([row[i] for row in probe["texts"]]) for i, name in enumerate(probe["inputs"])}
    found = {name: value.numpy() for name, value in predict(**columns).items()}
    assert set(found) == set(probe["answers"]), f"outputs {sorted(found)}, expected {sorted(probe['answers'])}"
    largest = 0.0
    for name, expected in probe["answers"].items():
        if found[name].dtype == object:
            texts = as_text(found[name].tolist())
            wrong = [i for i, pair in enumerate(zip(texts, expected, strict=True)) if pair[0] != pair[1]]
            assert not wrong, (
                f"{name} of {probe['texts'][wrong[0]]!r}: {texts[wrong[0]]!r}, predict says {expected[wrong[0]]!r}"
            )
        else:
            wanted = np.asarray(expected, np.float64)
            if wanted.size == found[name].size == 0:  # JSON forgets the widths of what is empty
                continue
            assert wanted.shape == found[name].shape, f"{name} is {found[name].shape}, predict's is {wanted.shape}"
            difference = float(np.max(np.abs(found[name] - wanted) / np.maximum(1.0, np.abs(wanted))))
            assert difference <= TOLERANCE, f"{name} differs by {difference:.2e} from predict, more than {TOLERANCE}"
            largest = max(largest, difference)
    _check_uneven(predict, columns)
    return largest


def as_text(value: Any) -> Any:
    """Bytes in nested lists as text."""
    if isinstance(value, list):
        return [as_text(item) for item in value]
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _check_ops(export_dir: Path) -> None:
    """Refuses ops that TensorFlow Serving cannot run: those that call back into Python or need XLA's compiler."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((export_dir / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    ops = {node.op for node in graph.node} | {node.op for f in graph.library.function for node in f.node_def}
    unfit = sorted(op for op in ops if op.startswith(("PyFunc", "EagerPyFunc", "Xla", "NumpyFunction")))
    assert not unfit, f"the graph holds {', '.join(unfit)}, which TensorFlow Serving does not run"


def _check_uneven(predict: Any, columns: dict[str, Any]) -> None:
    """Gives each text column in turn fewer rows than the others, and more; the model has to refuse both."""
    import tensorflow as tf

    if len(columns) < 2:
        return
    for name in columns:
        for own, others in ((1, 4), (4, 1)):
            uneven = {n: column[: own if n == name else others] for n, column in columns.items()}
            try:
                predict(**uneven)
            except tf.errors.InvalidArgumentError as error:
                assert "differ in their number of rows" in error.message, f"{name}: {error.message}"
            else:
                raise AssertionError(f"{own} rows of {name} beside {others} of the others are not refused")


def _replay(export_dir: Path, signatures: Any) -> None:
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    for record in tf.data.TFRecordDataset(str(export_dir / "assets.extra" / "tf_serving_warmup_requests")):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        kind = log.WhichOneof("log_type")
        request = getattr(log, kind).request
        signature = signatures[request.model_spec.signature_name]
        if kind == "predict_log":
            signature(**{name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()})
        else:
            examples = [example.SerializeToString() for example in request.input.example_list.examples]
            signature(inputs=tf.constant(examples))


if __name__ == "__main__":
    content = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    try:
        print(json.dumps({"largest_difference": check(Path(sys.argv[1]), content)}))
    except AssertionError as error:
        sys.exit(str(error))
