"""Every private name of Keras, KerasHub and Keras Tuner that kft uses: a release of theirs may move any of them.

A test reads the uses off the sources of kft and compares them with these lists, and the lists with the installed
versions. New uses belong into `kft/accelerate` or `kft/text`. A name leaves the list when something public does as
well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PrivateName:
    """One name.

    Attributes:
        owner: The class or module that has it, as an import path.
        name: The name in it.
        files: The modules of kft that use it.
        why: What kft needs it for.
        parameters: Of the functions that kft replaces or calls, those that it counts on, in order; None where it does
            not matter.
    """

    owner: str
    name: str
    files: tuple[str, ...]
    why: str
    parameters: tuple[str, ...] | None = None

    @property
    def key(self) -> str:
        """How a source names it: with its module where it is imported, by itself where it is an attribute."""
        return self.name if self.name.startswith("_") else f"{self.owner}.{self.name}"


def _listed(owner: str, files: str | tuple[str, ...], why: str, *names: str | Sequence[str]) -> list[PrivateName]:
    """Names of one owner with one reason; a sequence is a name and its parameters."""
    places = (files,) if isinstance(files, str) else files
    pairs = [(name, None) if isinstance(name, str) else (name[0], tuple(name[1:])) for name in names]
    return [PrivateName(owner, name, places, why, parameters) for name, parameters in pairs]


INTERNALS = "kft/accelerate/internals.py"
OPTIMIZERS = "kft/training/optimizers.py"
WORD_PIECE = "keras_hub.src.tokenizers.word_piece_tokenizer"
BYTE_PAIR = "keras_hub.src.tokenizers.byte_pair_tokenizer"
PRESETS = "keras_hub.src.utils.preset_utils"
OF_PRESETS = "files of presets on every hub, and models made of them in any dtype"
STATE = "the random state of the user, put back after a fit has drawn from its own"
FAST_TOKENS = "offsets of tokens, which KerasHub's tokenizers do not give"

PRIVATE_NAMES: tuple[PrivateName, ...] = (
    # -- layers and models
    *_listed("keras.Layer", INTERNALS, "all layers of a network, nested ones too", ("_flatten_layers", "self")),
    *_listed("keras.Layer", INTERNALS, "which layers hold an embedding table", "_layers"),
    *_listed("keras.src.ops.function.Function", INTERNALS, "the calls of layers in a model", "_nodes_by_depth"),
    *_listed("keras.src.models.functional", INTERNALS, "whether a model computes what its graph says", "Functional"),
    *_listed("keras.src.backend.common", INTERNALS, STATE, "global_state"),
    *_listed("keras.src.random.seed_generator", INTERNALS, STATE, "GLOBAL_SEED_GENERATOR"),
    *_listed("keras.src.utils.rng_utils", INTERNALS, STATE, "GLOBAL_RANDOM_SEED"),
    *_listed(
        "keras_hub.layers.TransformerEncoder",
        "kft/accelerate/first_token.py",
        "its `call` written anew for one token",
        *("_self_attention_layer", "_self_attention_layer_norm", "_self_attention_dropout"),
        *("_feedforward_intermediate_dense", "_feedforward_output_dense", "_feedforward_layer_norm"),
        "_feedforward_dropout",
    ),
    *_listed("keras.layers.MultiHeadAttention", "kft/accelerate/kernels.py", "dropout of the shares", "_dropout_layer"),
    *_listed(
        "keras_hub.layers.TransformerDecoder",
        "kft/accelerate/packed_attention.py",
        "the mask of decoders, less what is of other rows",
        ("_compute_self_attention_mask", "self"),
    ),
    *_listed(
        "keras_hub.src.models.bloom.bloom_decoder.BloomDecoder",
        "kft/accelerate/packed_attention.py",
        "likewise of the families that call it so",
        ("_compute_attention_mask", "self"),
    ),
    *_listed(
        "keras_hub.src.layers.modeling.transformer_layer_utils",
        INTERNALS,
        "the mask that TransformerEncoder makes",
        ("merge_padding_and_attention_mask", "inputs", "padding_mask", "attention_mask"),
    ),
    *_listed("keras_hub.src.utils.keras_utils", INTERNALS, "to know BERT's gelu among activations", "gelu_approximate"),
    *_listed(
        "keras.src.backend.common.masking", INTERNALS, "the mask that Embedding gives", ("set_keras_mask", "x", "mask")
    ),
    *_listed(
        "keras_hub.src.models.xlnet.xlnet_content_and_query_embedding",
        INTERNALS,
        "XLNet's positions, which mix the rows of a batch",
        "ContentAndQueryEmbedding",
    ),
    *_listed(
        "keras_hub.src.models.xlnet.xlnet_encoder",
        INTERNALS,
        "XLNet's mask, likewise",
        "XLNetAttentionMaskLayer",
    ),
    *_listed("keras.src.backend.tensorflow", INTERNALS, "slice_update without XLA's op, for exports", "core"),
    *_listed("keras.src.backend.tensorflow", INTERNALS, "squeeze of lengths known when the graph runs", "numpy"),
    # -- weights: made, read, saved
    *_listed(
        "keras.Variable",
        "kft/accelerate/skip_init.py",
        "random numbers that a file overwrites are not drawn",
        ("_initialize_with_initializer", "self", "initializer"),
    ),
    *_listed(
        "keras.src.initializers.random_initializers", INTERNALS, "to know which initializers draw", "RandomInitializer"
    ),
    *_listed("keras.src.saving.saving_lib", INTERNALS, "the files that weights are saved in", "H5IOStore"),
    *_listed(
        "keras.src.saving.saving_lib.H5IOStore",
        INTERNALS,
        "a full disk without a crash of HDF5",
        ("_get_h5_file", "self", "path_or_io", "mode"),
    ),
    # -- presets
    *_listed(PRESETS, INTERNALS, OF_PRESETS, "ASSET_DIR", ("check_file_exists", "preset", "path")),
    *_listed(PRESETS, INTERNALS, OF_PRESETS, ("get_file", "preset", "path"), ("get_preset_loader", "preset")),
    *_listed(PRESETS, INTERNALS, OF_PRESETS, ("check_config_class", "config"), ("load_json", "preset", "config_file")),
    *_listed(PRESETS, INTERNALS, OF_PRESETS, "TASK_CONFIG_FILE"),
    *_listed(
        "keras_hub.src.utils.transformers.safetensor_utils",
        INTERNALS,
        "a tensor that KerasHub's converter leaves out",
        "SafetensorLoader",
    ),
    # -- optimizers
    *_listed(
        "keras.optimizers.AdamW",
        OPTIMIZERS,
        "sums of gradients and updates of several calls, a rate for each variable, decay in the fused update",
        ("_backend_apply_gradients", "self", "grads", "trainable_variables"),
        ("_backend_update_step", "self", "grads", "trainable_variables", "learning_rate"),
        ("_apply_weight_decay", "self", "variables"),
        ("_use_weight_decay", "self", "variable"),
        ("_get_variable_index", "self", "variable"),
        *("_accumulated_gradients", "_iterations", "_trainable_variables", "_momentums", "_velocities"),
    ),
    *_listed(
        "keras.optimizers.LossScaleOptimizer",
        OPTIMIZERS,
        "calls whose gradients overflow are counted",
        ("_stateful_handle_non_finite_grads", "self"),
        ("_stateless_handle_non_finite_grads", "self", "optimizer_variables", "trainable_variables"),
    ),
    # -- tokenizers
    *_listed(
        WORD_PIECE,
        "kft/text/wordpiece.py",
        FAST_TOKENS,
        *("CJK_REGEX", "PUNCTUATION_REGEX", "PUNCTUATION_AND_CJK_REGEX", "WHITESPACE_AND_PUNCTUATION_REGEX"),
        *("WHITESPACE_PUNCTUATION_AND_CJK_REGEX", "get_special_tokens_pattern"),
    ),
    *_listed(WORD_PIECE, ("kft/text/vocabularies.py", "kft/text/wordpiece.py"), FAST_TOKENS, "pretokenize"),
    *_listed(
        "keras_hub.tokenizers.WordPieceTokenizer",
        "kft/text/wordpiece.py",
        FAST_TOKENS,
        *("_fast_word_piece", ("_special_tokens_for_splitting", "self")),
    ),
    *_listed(
        BYTE_PAIR,
        "kft/text/bytepair.py",
        FAST_TOKENS,
        *("SPECIAL_WHITESPACES", "SPLIT_PATTERN_1", "SPLIT_PATTERN_2", "create_alts_for_unsplittable_tokens"),
    ),
    *_listed(
        "keras_hub.tokenizers.BytePairTokenizer",
        "kft/text/bytepair.py",
        FAST_TOKENS,
        *(("_bpe_merge_tf", "self", "inputs"), ("_maybe_initialized_tf", "self")),
    ),
    *_listed(
        "keras_hub.tokenizers.SentencePieceTokenizer", "kft/text/sentencepiece.py", FAST_TOKENS, "_sentence_piece"
    ),
    *_listed(
        "keras_hub.tokenizers.SentencePieceTokenizer",
        ("kft/text/offsets.py", "kft/text/sentencepiece.py"),
        "to know whether a family tokenizes in a way of its own",
        ("_tokenize_tf", "self", "inputs"),
    ),
    *_listed(
        "keras_hub.tokenizers.SentencePieceTokenizer",
        "kft/text/unknown.py",
        "which tokens are unknown",
        "_unk_token_id",
    ),
    # -- Keras Tuner
    *_listed("keras_tuner.engine", "tuning/trial.py", "its search loop around a fit", "base_tuner"),
    *_listed("keras_tuner.Oracle", "tuning/trial.py", "spaces of few combinations searched whole", "_max_collisions"),
)

REPLACED_METHODS: tuple[PrivateName, ...] = (
    *_listed(
        "keras_hub.layers.TransformerEncoder",
        ("kft/accelerate/first_token.py", "kft/accelerate/kernels.py"),
        "computed for one token; one graph for layers that are alike",
        ("call", "self", "inputs", "padding_mask", "attention_mask", "training"),
    ),
    *_listed(
        "keras.layers.MultiHeadAttention",
        "kft/accelerate/kernels.py",
        "one product for queries, keys and values",
        ("call", "self", "query", "value"),
    ),
    *_listed(
        "keras_hub.layers.CachedMultiHeadAttention",
        "kft/accelerate/kernels.py",
        "likewise",
        ("call", "self", "query", "value"),
    ),
    *_listed(
        "keras.layers.Dense",
        ("kft/accelerate/kernels.py", "kft/transfer/adapters.py"),
        "fused gelu; what adapters add before it",
        ("call", "self", "inputs", "training"),
    ),
    *_listed(
        "keras.layers.EinsumDense",
        "kft/transfer/adapters.py",
        "what adapters add",
        ("call", "self", "inputs", "training"),
    ),
    *_listed(
        "keras.layers.Dropout", "kft/accelerate/kernels.py", "fewer random bits", ("call", "self", "inputs", "training")
    ),
    *_listed(
        "keras.layers.LayerNormalization", "kft/accelerate/kernels.py", "fewer passes", ("call", "self", "inputs")
    ),
    *_listed(
        "keras.layers.Embedding",
        "kft/accelerate/sparse_embeddings.py",
        "rows read from variables of their own",
        ("call", "self", "inputs"),
    ),
    *_listed(
        "keras_hub.layers.PositionEmbedding",
        "kft/accelerate/packed_attention.py",
        "positions that count from the beginning of each row",
        ("call", "self", "inputs", "start_index", "positions"),
    ),
    *_listed("keras.Model", "kft/accelerate/passes.py", "a network of the same layers is called alike", "call"),
    *_listed(
        "keras.Layer", "kft/accelerate/overrides.py", "what gives the layers above another `call` for good", "call"
    ),
    *_listed(
        "keras_hub.src.models.xlnet.xlnet_encoder.XLNetAttentionMaskLayer",
        "kft/models/xlnet.py",
        "positions and masks that do not mix the rows of a batch",
        "call",
    ),
    *_listed(
        "keras.Variable", "kft/accelerate/skip_init.py", "which variables a file fills", ("assign", "self", "value")
    ),
    *_listed(
        "keras.src.backend.tensorflow.core",
        "kft/models/generators.py",
        "an operation that TensorFlow Serving has",
        ("slice_update", "inputs", "start_indices", "updates"),
    ),
    *_listed(
        "keras.src.backend.tensorflow.numpy",
        "kft/models/generators.py",
        "squeezed lengths are known when the graph runs",
        ("squeeze", "x", "axis"),
    ),
    *_listed(
        "keras_hub.models.Seq2SeqLMPreprocessor",
        "kft/models/generators.py",
        "lengths that its config leaves out",
        ("get_config", "self"),
    ),
)
"""Public methods that kft replaces in objects of theirs."""
