"""From the name of a pretrained model to its backbone and tokenizer.

A name is `minilm` (from the package of the extra of that name), a KerasHub preset, a hub handle (`kaggle://`, `hf://`,
`modelscope://`), a directory with a KerasHub preset or a Hugging Face checkpoint, or `scratch:` and a family.
"""

from __future__ import annotations

import inspect
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import keras_hub

from kft.accelerate import skip_init
from kft.accelerate.internals import ASSET_DIR, get_preset_loader, passes_of
from kft.errors import PresetError, did_you_mean
from kft.models import finite, handles, hugging_face, original_tokenizers, preset_files
from kft.models.handles import HUBS
from kft.text import rules

SCRATCH = {"scratch:bert": keras_hub.models.BertBackbone, "scratch:gpt2": keras_hub.models.GPT2Backbone}
"""Models that begin with random weights and a tokenizer of the training texts; see `kft.models.scratch`."""

TOKENIZER = "tokenizer"  # the folder of its vocabulary, under the assets of a preset

TEXT_INPUTS = {"token_ids", "segment_ids", "padding_mask"} | {
    f"{side}_{name}" for side in ("encoder", "decoder") for name in ("token_ids", "padding_mask")
}


@dataclass(frozen=True)
class Preset:
    """A pretrained model that was found and is known to read text.

    Attributes:
        name: As the user wrote it.
        handle: What KerasHub's `from_preset` takes.
        backbone_class: The KerasHub backbone class.
        ready: Backbone and tokenizer where they are in hand, so that another model is built on the same layers.
    """

    name: str
    handle: str
    backbone_class: type
    ready: tuple[Any, Any] | None = None

    def backbone(self, dtype: str = "float32") -> Any:
        """The backbone with its pretrained weights.

        Raises:
            PresetError: The weights cannot be read, or it needs more than text.
        """
        if self.ready is not None:
            return self.ready[0]
        with _told(self.name):
            loader = _loader(self.handle)
            is_foreign = preset_files.is_hugging_face(loader.config)
            settings = hugging_face.forgotten(loader.config) if is_foreign else {}
            if is_foreign:
                hugging_face.check_weights(self.handle, loader.config)
            with skip_init.by_files():
                backbone = loader.load_backbone(self.backbone_class, True, dtype=dtype, **settings)
            if is_foreign:
                hugging_face.add_token_types(self.handle, loader.config, backbone)
            finite.require(backbone, f"preset {self.name!r}", PresetError)
        inputs = set(backbone.input) if isinstance(backbone.input, dict) else set()
        if not inputs or not inputs <= TEXT_INPUTS:
            raise PresetError(
                f"preset {self.name!r}: its {self.backbone_class.__name__} takes {sorted(inputs) or 'images'}; "
                "expected a backbone that takes text alone."
            )
        return backbone

    def tokenizer(self) -> Any:
        """The tokenizer that belongs to the backbone, which reads texts as the original one.

        Raises:
            PresetError: Its files cannot be read or say what cannot be done, or it has more tokens than the backbone
                has embeddings.
        """
        if self.ready is not None:
            return self.ready[1]
        tokenizer_class = _paired(keras_hub.tokenizers.Tokenizer, self.backbone_class) or keras_hub.tokenizers.Tokenizer
        with _told(self.name):
            loader = _loader(self.handle)
            if preset_files.is_hugging_face(loader.config):
                tokenizer = original_tokenizers.of_hugging_face(self.handle, tokenizer_class, loader.config)
            else:
                tokenizer = with_rules(loader.load_tokenizer(tokenizer_class), self.handle)
                tokenizer = original_tokenizers.of_keras_hub(tokenizer)
        _check_rows(self.name, tokenizer, loader.config)
        return tokenizer

    def classifier_class(self) -> type | None:
        """KerasHub's own TextClassifier for this backbone, or None where it has none."""
        return _paired(keras_hub.models.TextClassifier, self.backbone_class)

    def embedder_class(self) -> type | None:
        """KerasHub's own TextEmbedder for this backbone, or None where it has none."""
        return _paired(keras_hub.models.TextEmbedder, self.backbone_class)

    def is_causal(self) -> bool:
        """Whether each position sees only those before it (decoders such as GPT-2 and Llama)."""
        return self.causal_lm_class() is not None

    def causal_lm_class(self) -> type | None:
        """KerasHub's CausalLM for this backbone, or None where it has none."""
        return _paired(keras_hub.models.CausalLM, self.backbone_class)

    def masked_lm_class(self) -> type | None:
        """KerasHub's MaskedLM for this backbone, or None where it has none."""
        return masked_lm_class(self.backbone_class)

    def has_segments(self) -> bool:
        """Whether the backbone tells two texts of a row apart, and sums a row up in a pooled output."""
        backbone_class: Any = self.backbone_class
        return "num_segments" in inspect.signature(backbone_class.__init__).parameters


def masked_lm_class(backbone_class: type) -> type | None:
    """KerasHub's MaskedLM for a backbone class, or None where it has none."""
    return _paired(keras_hub.models.MaskedLM, backbone_class)


def find(name: str) -> Preset:
    """Finds a pretrained model by name, reading its configuration only.

    Raises:
        PresetError: Nothing is known by that name (with the nearest known one), its files cannot be read or fetched,
            or the model does not read text.
    """
    if name in SCRATCH:
        return Preset(name, "", SCRATCH[name])
    handle = _handle(name)
    backbone_class = _backbone_class_of_builtin(handle)
    if backbone_class is None:
        with _told(name):
            loader = _loader(handle)
            if preset_files.is_hugging_face(loader.config):
                hugging_face.check(handle, loader.config)
            backbone_class = loader.check_backbone_class()
    has_tokenizer_file = Path(handle, "tokenizer.json").is_file()
    if not has_tokenizer_file and _paired(keras_hub.tokenizers.Tokenizer, backbone_class) is None:
        raise PresetError(
            f"preset {name!r} is a {backbone_class.__name__} without a tokenizer: not a text model. Expected a "
            "language model such as minilm, bert_base_en_uncased or gpt2_base_en."
        )
    return Preset(name, handle, backbone_class)


def _handle(name: str) -> str:
    handle = handles.local(name)
    if handle is not None:
        return handle
    known = keras_hub.models.Backbone.presets
    if name not in known:
        raise PresetError(
            f"unknown preset {name!r}.{did_you_mean(name, [*known, *SCRATCH, 'minilm'])} Expected minilm, one of "
            f"KerasHub's {len(known)} preset names, {', '.join([*SCRATCH, *HUBS])} or a directory."
        )
    return name


def _loader(handle: str) -> Any:
    """KerasHub's loader of a preset whose files were checked."""
    preset_files.check(handle)
    return get_preset_loader(handle)


def with_rules(tokenizer: Any, handle: str) -> Any:
    """The tokenizer with the rules that kft saved beside its vocabulary, if there are any.

    Raises:
        PresetError: The file of the rules is damaged.
    """
    found = rules.read(Path(handle, ASSET_DIR, TOKENIZER)) if Path(handle).is_dir() else None
    return tokenizer if found is None else rules.attach(tokenizer, found)


def _check_rows(name: str, tokenizer: Any, config: dict[str, Any]) -> None:
    """Refuses a tokenizer with ids past the backbone's embeddings, by the preset's config.json."""
    inner = config.get("config", {}) if "registered_name" in config else config
    sizes = (inner.get(key) for key in ("vocabulary_size", "vocab_size"))
    num_rows = next((size for size in sizes if isinstance(size, int)), None)
    ids = getattr(tokenizer, "vocabulary", None)
    num_ids = max(ids.values()) + 1 if isinstance(ids, dict) else tokenizer.vocabulary_size()
    found = rules.of(tokenizer)
    num_ids = max([num_ids, *(added.id + 1 for added in (found.added if found else ()))])
    if num_rows is not None and num_ids > num_rows:
        raise PresetError(
            f"preset {name!r}: its tokenizer has {num_ids:,} pieces, its config.json {num_rows:,} rows of embeddings; "
            "expected no more pieces than rows. Take tokenizer and weights of the same model."
        )


def _backbone_class_of_builtin(name: str) -> Any:
    """The backbone class of a preset that KerasHub lists, known without a download; None for any other name."""
    classes = [value for value in vars(keras_hub.models).values() if isinstance(value, type)]
    backbones: list[Any] = [value for value in classes if issubclass(value, keras_hub.models.Backbone)]
    owners = [backbone for backbone in backbones if name in backbone.presets]
    # A class lists its subclasses' presets too, so the owner is the one that lists fewest.
    return min(owners, key=lambda owner: len(owner.presets)) if owners else None


def _paired(base: type, backbone_class: type) -> type | None:
    """KerasHub's own public subclass of `base` that is made for this backbone class."""
    namespaces = (keras_hub.models, keras_hub.tokenizers)
    found = [
        value
        for namespace in namespaces
        for value in vars(namespace).values()
        if isinstance(value, type) and issubclass(value, base) and value.__dict__.get("backbone_cls") is backbone_class
    ]
    return found[0] if found else None


class _told:
    """Turns what loading raises into one PresetError that names the preset."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, PresetError) or error is None or not isinstance(error, Exception):
            return
        if isinstance(error, json.JSONDecodeError):
            raise PresetError(f"preset {self.name!r}: its config.json is not valid JSON: {error}") from error
        if isinstance(error, KeyError):
            raise PresetError(
                f"preset {self.name!r} cannot be loaded: a JSON file of it has no {error}, or the weights have no such "
                "name. Expected the files that KerasHub's save_to_preset or transformers' save_pretrained write."
            ) from error
        raise PresetError(f"preset {self.name!r} cannot be loaded: {type(error).__name__}: {error}") from error


def max_positions(backbone: Any) -> int | None:
    """The most tokens the backbone has positions for; None where it has no limit (relative and rotary positions)."""
    limit = getattr(backbone, "max_sequence_length", None)
    return int(limit) if limit else None


def weights_passed(model: keras.Model) -> list[tuple[Any, int]]:
    """Each weight of a model, and how often a token passes it: more than once where layers are shared, as in ALBERT.

    A table of embeddings counts once, however many inputs it reads.
    """
    passes = passes_of(model)
    found = {}
    for layer in model.layers:
        for weight in layer.weights:
            found[id(weight)] = (weight, 1 if "embedding" in weight.path else passes[id(layer)])
    return list(found.values())


def count_parameters(model: keras.Model) -> int:
    """Weights of a model, shared ones as often as a token passes them."""
    return sum(times * math.prod(weight.shape) for weight, times in weights_passed(model))
