"""Names of Keras and KerasHub that are not public and that several modules need, imported here alone.

Each stands in `private_names.py` with the reason why nothing public will do.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras.src.backend.common import global_state
from keras.src.backend.common.masking import set_keras_mask
from keras.src.initializers.random_initializers import RandomInitializer
from keras.src.models.functional import Functional
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR
from keras.src.saving.saving_lib import H5IOStore
from keras.src.utils.rng_utils import GLOBAL_RANDOM_SEED
from keras_hub.src.layers.modeling.transformer_layer_utils import merge_padding_and_attention_mask
from keras_hub.src.models.xlnet.xlnet_content_and_query_embedding import ContentAndQueryEmbedding
from keras_hub.src.models.xlnet.xlnet_encoder import XLNetAttentionMaskLayer
from keras_hub.src.utils.keras_utils import gelu_approximate
from keras_hub.src.utils.preset_utils import (
    ASSET_DIR,
    TASK_CONFIG_FILE,
    check_config_class,
    check_file_exists,
    get_file,
    get_preset_loader,
    load_json,
)
from keras_hub.src.utils.transformers.safetensor_utils import SafetensorLoader

from kft.accelerate.overrides import has_own_call, replaced

__all__ = [
    "ASSET_DIR",
    "ContentAndQueryEmbedding",
    "GLOBAL_RANDOM_SEED",
    "GLOBAL_SEED_GENERATOR",
    "RandomInitializer",
    "SafetensorLoader",
    "TASK_CONFIG_FILE",
    "XLNetAttentionMaskLayer",
    "check_config_class",
    "check_file_exists",
    "gelu_approximate",
    "get_file",
    "get_preset_loader",
    "global_state",
    "hold",
    "is_functional",
    "layers_of",
    "load_json",
    "merge_padding_and_attention_mask",
    "nodes_of",
    "num_calls",
    "opening_weights",
    "sublayers_of",
    "passes_of",
    "release",
    "set_keras_mask",
    "sources_of",
    "tensorflow_backend",
]


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    """Every layer of a model, those inside other layers too, and the model itself."""
    return list(model._flatten_layers())


def sublayers_of(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that a layer holds itself, without those inside them."""
    return list(layer._layers)


def nodes_of(model: keras.Model) -> list[Any]:
    """The calls of layers that a functional model is made of, from its inputs on."""
    return [node for depth in sorted(model._nodes_by_depth, reverse=True) for node in model._nodes_by_depth[depth]]


def is_functional(model: Any) -> bool:
    """Whether a layer is a model that computes just what its graph says."""
    return isinstance(model, Functional) and type(model).call is Functional.call and has_own_call(model)


def sources_of(model: keras.Model) -> dict[int, Any]:
    """The call of a layer that each symbolic tensor comes from, by the tensor's `id`, inside nested models too."""
    sources: dict[int, Any] = {}
    ahead = [model]
    while ahead:
        for node in nodes_of(ahead.pop()):
            sources |= {id(tensor): node for tensor in node.output_tensors}
            if isinstance(node.operation, keras.Function):
                ahead.append(node.operation)
    return sources


def hold(layer: keras.layers.Layer, part: keras.layers.Layer) -> None:
    """Makes a layer's variables those of a part too, after it was built; what is saved of the layer stays as it is."""
    layer._layers.append(part)


def release(layer: keras.layers.Layer, part: keras.layers.Layer) -> None:
    """Undoes `hold`."""
    layer._layers.remove(part)


def num_calls(model: keras.Model, layer: keras.layers.Layer) -> int:
    """At how many places of a functional model, and of those nested in it, a layer is called."""
    return len({id(node) for node in sources_of(model).values() if node.operation is layer})


def passes_of(model: keras.Model) -> Counter[int]:
    """How often each layer of a functional model is called in it, by the layer's `id`."""
    return Counter(id(node.operation) for level in model._nodes_by_depth.values() for node in level)


@contextlib.contextmanager
def opening_weights(open_file: Callable[..., Any]) -> Iterator[None]:
    """Lets a function open the HDF5 files that Keras reads and writes weights in, while this lasts.

    Args:
        open_file: From Keras's own function, the store, a path and a mode to the open file.
    """
    own = functools.partial(open_file, H5IOStore._get_h5_file)
    with replaced(H5IOStore, "_get_h5_file", own):
        yield


def tensorflow_backend() -> tuple[Any, Any]:
    """The modules in which Keras looks up its operations on tensors of TensorFlow: `core` and `numpy`."""
    names = ("keras.src.backend.tensorflow.core", "keras.src.backend.tensorflow.numpy")
    return importlib.import_module(names[0]), importlib.import_module(names[1])
