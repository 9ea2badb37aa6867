"""Task heads: KerasHub's TextClassifier where there is one, and a sequence head of ours for every other backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import keras_hub
from keras import ops, saving

from kft.accelerate import skip_init
from kft.accelerate.internals import TASK_CONFIG_FILE, check_config_class, get_preset_loader, load_json
from kft.errors import PresetError
from kft.models import finite, preset_files, seeding, xlnet
from kft.models.presets import Preset, masked_lm_class, with_rules
from kft.text.tokens import SequencePreprocessor


def sequence_model(preset: Preset, num_outputs: int, max_length: int, dtype: str, seed: int) -> keras_hub.models.Task:
    """A model from token features to `(batch, num_outputs)` logits, with its preprocessor.

    Args:
        preset: Where backbone and tokenizer come from.
        num_outputs: Classes, or 1 for a number.
        max_length: The preprocessor's `sequence_length`.
        dtype: Precision policy of the whole model, such as `"mixed_bfloat16"`.
        seed: Seed of the head's weights and of dropout.
    """
    seeding.set_seed(seed)
    backbone, tokenizer = preset.backbone(dtype), preset.tokenizer()
    preprocessor = preprocessor_for(preset, backbone, tokenizer, max_length)
    classifier_class: Any = preset.classifier_class()
    if classifier_class is not None:
        return classifier_class(backbone=backbone, preprocessor=preprocessor, num_classes=num_outputs, compile=False)
    pooling = pooling_of(preset, preprocessor)
    return SequenceClassifier(
        backbone=backbone, preprocessor=preprocessor, num_classes=num_outputs, pooling=pooling, compile=False
    )


def token_model(preset: Preset, num_outputs: int, max_length: int, dtype: str, seed: int) -> keras_hub.models.Task:
    """A model from token features to `(batch, tokens, num_outputs)` logits; arguments as for `sequence_model`."""
    seeding.set_seed(seed)
    backbone, tokenizer = preset.backbone(dtype), preset.tokenizer()
    preprocessor = preprocessor_for(preset, backbone, tokenizer, max_length)
    return TokenClassifier(backbone=backbone, preprocessor=preprocessor, num_classes=num_outputs, compile=False)


def preprocessor_for(preset: Preset, backbone: Any, tokenizer: Any, max_length: int) -> Any:
    """KerasHub's for classification where there is one, else ours."""
    classifier_class: Any = preset.classifier_class()
    if classifier_class is not None:
        return classifier_class.preprocessor_cls(tokenizer, sequence_length=max_length)
    names = set(backbone.input)
    return SequencePreprocessor(
        tokenizer,
        sequence_length=max_length,
        prefix="encoder_" if "encoder_token_ids" in names else "",
        with_segments="segment_ids" in names,
        end_order=_xlnet_end(tokenizer) if preset.backbone_class is keras_hub.models.XLNetBackbone else None,
    )


def pooling_of(preset: Preset, preprocessor: Any) -> str:
    """What rows are read off: of decoders the last token, of encoders beside a decoder the mean, else the first."""
    if not isinstance(preprocessor, SequencePreprocessor):
        return "first"
    is_last = preset.is_causal() or preprocessor.end_order
    return "mean" if preprocessor.prefix else "last" if is_last else "first"


def _xlnet_end(tokenizer: Any) -> list[int]:
    """XLNet ends a row with `<sep> <cls>` and reads the sentence off that last token (Yang et al., 2019, sec. 2.5)."""
    return [tokenizer.token_to_id("<sep>"), tokenizer.token_to_id("<cls>")]


@saving.register_keras_serializable(package="kft")
class Pool(keras.layers.Layer):
    """One vector for each row: `(batch, tokens, width)` and its mask to `(batch, width)`.

    Args:
        pooling: `"first"` token, `"last"` token that is no padding, or `"mean"` over the tokens that are no padding.
    """

    def __init__(self, pooling: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.pooling = pooling

    def call(self, sequence: Any, padding_mask: Any) -> Any:
        if self.pooling == "first":
            return sequence[:, 0, :]
        mask = ops.cast(padding_mask, sequence.dtype)  # (batch, tokens)
        if self.pooling == "last":
            # One-hot of the last real token: a mask minus itself shifted left.
            following = ops.pad(mask[:, 1:], [[0, 0], [0, 1]])
            mask = mask - following
        total = ops.einsum("bt,btw->bw", mask, sequence)
        return total / ops.maximum(ops.sum(mask, axis=1, keepdims=True), 1)

    def compute_output_shape(self, sequence_shape: Any, padding_mask_shape: Any = None) -> Any:
        return (sequence_shape[0], sequence_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pooling": self.pooling}


def sequence_of(backbone: Any) -> tuple[dict[str, Any], str, Any]:
    """The inputs that lead to a backbone's `(batch, tokens, width)` output, what their names begin with, and it."""
    xlnet.mend(backbone)  # here, since each of kft's heads passes by, newly made or opened from a file
    outputs = backbone.output
    if isinstance(outputs, dict):
        key = "encoder_sequence_output" if "encoder_sequence_output" in outputs else "sequence_output"
        outputs = outputs[key]
    prefix = "encoder_" if "encoder_token_ids" in backbone.input else ""
    return {name: backbone.input[name] for name in backbone.input if name.startswith(prefix)}, prefix, outputs


@saving.register_keras_serializable(package="kft")
class SequenceClassifier(keras_hub.models.Task):
    """Classes, or one number, for a whole row, on any KerasHub text backbone.

    Decoders are read off their last real token (Radford et al., 2018), encoders of sequence-to-sequence models off the
    mean of theirs, other encoders off their first. Saves and loads as a KerasHub preset once `kft.models.heads` is
    imported.

    Args:
        backbone: A KerasHub text backbone.
        num_classes: Width of the output.
        preprocessor: What turns strings into the backbone's inputs.
        pooling: `"first"`, `"last"` or `"mean"`.
        dropout: Share of the pooled vector dropped in training.
    """

    def __init__(
        self,
        backbone: Any,
        num_classes: int,
        preprocessor: Any = None,
        pooling: str = "last",
        dropout: float = 0.1,
        **kwargs: Any,
    ):
        inputs, prefix, outputs = sequence_of(backbone)
        policy = backbone.dtype_policy
        # The first token needs no mask, and some backbones have none.
        mask = inputs.get(prefix + "padding_mask", inputs[prefix + "token_ids"])
        pooled = Pool(pooling, dtype=policy, name="pool")(outputs, mask)
        pooled = keras.layers.Dropout(dropout, dtype=policy, name="classifier_dropout")(pooled)
        logits = keras.layers.Dense(
            num_classes, kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02), dtype=policy, name="logits"
        )(pooled)
        self.backbone = backbone
        self.preprocessor = preprocessor
        super().__init__(inputs=inputs, outputs=logits, **kwargs)
        self.num_classes = num_classes
        self.pooling = pooling
        self.dropout = dropout

    def get_config(self) -> dict[str, Any]:
        names = ("num_classes", "pooling", "dropout")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_preset(cls, preset: str, load_weights: bool = True, **kwargs: Any) -> SequenceClassifier:
        """Opens a preset that was saved from this class; KerasHub's lookup by backbone class is not needed."""
        return get_preset_loader(preset).load_task(cls, load_weights, "num_classes" not in kwargs, **kwargs)


@saving.register_keras_serializable(package="kft")
class TokenClassifier(keras_hub.models.Task):
    """Classes, or other numbers, for each token, on any KerasHub text backbone.

    Saves and loads as a KerasHub preset once `kft.models.heads` is imported.

    Args:
        backbone: A KerasHub text backbone.
        num_classes: Width of the output.
        preprocessor: What turns strings into the backbone's inputs.
        dropout: Share of each token's vector dropped in training.
    """

    def __init__(self, backbone: Any, num_classes: int, preprocessor: Any = None, dropout: float = 0.1, **kwargs: Any):
        inputs, _, outputs = sequence_of(backbone)
        policy = backbone.dtype_policy
        dropped = keras.layers.Dropout(dropout, dtype=policy, name="classifier_dropout")(outputs)
        logits = keras.layers.Dense(
            num_classes, kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02), dtype=policy, name="logits"
        )(dropped)
        self.backbone = backbone
        self.preprocessor = preprocessor
        super().__init__(inputs=inputs, outputs=logits, **kwargs)
        self.num_classes = num_classes
        self.dropout = dropout

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_classes": self.num_classes, "dropout": self.dropout}

    @classmethod
    def from_preset(cls, preset: str, load_weights: bool = True, **kwargs: Any) -> TokenClassifier:
        """Opens a preset that was saved from this class; KerasHub's lookup by backbone class is not needed."""
        return get_preset_loader(preset).load_task(cls, load_weights, "num_classes" not in kwargs, **kwargs)


@saving.register_keras_serializable(package="kft")
class MaskedPairLM(keras_hub.models.Task):
    """A masked language model that also tells, of two sentences, how they belong together.

    The outputs are `pair`, the logits `(batch, 2)` of how the sentences belong together, off the pooled output as in
    BERT, and `tokens`, KerasHub's MaskedLM's `(batch, masks, vocabulary)`. Saves and loads as a KerasHub preset once
    `kft.models.heads` is imported.

    Args:
        backbone: A KerasHub backbone with segments, a pooled output and a MaskedLM.
        preprocessor: What turns strings into the backbone's inputs.

    References:
        Devlin et al., 2019, sec. 3.1, https://arxiv.org/abs/1810.04805
        Lan et al., 2020, sec. 3.1, https://arxiv.org/abs/1909.11942
    """

    def __init__(self, backbone: Any, preprocessor: Any = None, **kwargs: Any):
        model_class: Any = masked_lm_class(type(backbone))
        inner = model_class(backbone=backbone, compile=False)
        policy = backbone.dtype_policy
        outputs = backbone(backbone.input)
        masked = inner.masked_lm_head(outputs["sequence_output"], inner.input["mask_positions"])
        pair_logits = keras.layers.Dense(
            2, kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02), dtype=policy, name="pair_logits"
        )
        heads = {"pair": pair_logits(outputs["pooled_output"]), "tokens": masked}
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.masked_lm_head = inner.masked_lm_head
        self.pair_logits = pair_logits
        super().__init__(inputs=inner.input, outputs=heads, **kwargs)

    @classmethod
    def from_preset(cls, preset: str, load_weights: bool = True, **kwargs: Any) -> MaskedPairLM:
        """Opens a preset that was saved from this class; KerasHub's lookup by backbone class is not needed."""
        return get_preset_loader(preset).load_task(cls, load_weights, True, **kwargs)


def side_by_side(single: keras.Model, prefixes: Mapping[str, str]) -> keras.Model:
    """A model that reads several texts a row, each through the same weights.

    Args:
        single: From the token features of a text to `(batch, width)`.
        prefixes: By the name of each text's output, what the names of its inputs begin with.

    Returns:
        A model to the outputs for each text of a row by name, `(batch, width)` float32.
    """
    columns = {
        output: {
            name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=prefix + name)
            for name, tensor in single.input.items()
        }
        for output, prefix in prefixes.items()
    }
    outputs = {output: ops.cast(single(column), "float32") for output, column in columns.items()}
    return keras.Model({tensor.name: tensor for column in columns.values() for tensor in column.values()}, outputs)


def open_task(preset_dir: str, dtype: str = "float32") -> keras_hub.models.Task:
    """The fine-tuned task model that a run saved under `preset_dir`, weights, head and preprocessor included."""
    from kft.models import encoders, multi_head, prefix_lm  # noqa: F401  (register their models)

    preset_files.check(preset_dir)
    with skip_init.by_files():
        task = get_preset_loader(preset_dir).load_task(task_class(preset_dir), True, True, dtype=dtype, compile=False)
    finite.require(task, str(preset_dir), PresetError)
    with_rules(task.preprocessor.tokenizer, preset_dir)
    return task


def task_class(preset_dir: str) -> type:
    """The class of the task model that was saved under `preset_dir`."""
    return check_config_class(load_json(preset_dir, TASK_CONFIG_FILE))
