"""LoRA in PEFT's files: added to Hugging Face's own weights it gives a model that answers as the run does.

PEFT itself is not at hand. Its definition is: the weight of a module grows by `lora_alpha / r * lora_B @ lora_A`.
"""

import json

import keras
import keras_hub
import numpy as np
import pytest
import safetensors.numpy

import kft
from kft.errors import RecipeError, RunError
from kft.models import heads, presets
from kft.transfer import application, peft

SETTINGS = {"lora_alpha": 6.0, "lora_dropout": 0.0, "lora_targets": "all", "lora_variant": "plain"}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "tea", "soup", "was", "good", "bad", "not", "my"]
WIDTH, INNER = 8, 16


def bert(folder):
    """A directory with a BERT of two layers, as Hugging Face has it."""
    draw, width, inner = np.random.default_rng(0), WIDTH, INNER
    norms, linear = ["embeddings"], {"pooler.dense": (width, width)}
    shapes = {"word_embeddings": len(WORDS), "position_embeddings": 24, "token_type_embeddings": 2}
    for number in range(2):
        layer = f"encoder.layer.{number}"
        norms += [f"{layer}.attention.output", f"{layer}.output"]
        names = ("self.query", "self.key", "self.value", "output.dense")
        linear |= {f"{layer}.attention.{name}": (width, width) for name in names}
        linear |= {f"{layer}.intermediate.dense": (inner, width), f"{layer}.output.dense": (width, inner)}
    tensors = {f"embeddings.{name}.weight": draw.normal(size=(rows, width)) for name, rows in shapes.items()}
    for name in norms:
        tensors |= {f"{name}.LayerNorm.weight": np.ones(width), f"{name}.LayerNorm.bias": draw.normal(size=width)}
    for name, shape in linear.items():
        tensors |= {f"{name}.weight": draw.normal(size=shape) / 2, f"{name}.bias": draw.normal(size=shape[0])}
    config = {
        **{"model_type": "bert", "vocab_size": len(WORDS), "num_hidden_layers": 2, "num_attention_heads": 2},
        **{"hidden_size": width, "intermediate_size": inner, "max_position_embeddings": 24, "type_vocab_size": 2},
    }
    return save(folder, config, tensors)


def llama(folder):
    """A directory with a Llama of two layers, likewise."""
    draw = np.random.default_rng(0)
    shapes = {"embed_tokens": (20, WIDTH), "norm": (WIDTH,)}
    for number in range(2):
        layer = f"layers.{number}"
        shapes |= {f"{layer}.{name}_layernorm": (WIDTH,) for name in ("input", "post_attention")}
        shapes |= {f"{layer}.self_attn.{name}_proj": (WIDTH, WIDTH) for name in "qo"}
        shapes |= {f"{layer}.self_attn.{name}_proj": (WIDTH // 2, WIDTH) for name in "kv"}
        shapes |= {f"{layer}.mlp.{name}_proj": (INNER, WIDTH) for name in ("gate", "up")}
        shapes[f"{layer}.mlp.down_proj"] = (WIDTH, INNER)
    tensors = {f"model.{name}.weight": draw.normal(size=shape) / 2 for name, shape in shapes.items()}
    tensors["lm_head.weight"] = draw.normal(size=(20, WIDTH))
    config = {
        **{"model_type": "llama", "vocab_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2},
        **{"num_key_value_heads": 1, "hidden_size": WIDTH, "intermediate_size": INNER, "rms_norm_eps": 1e-6},
        **{"rope_theta": 10000.0, "tie_word_embeddings": False, "max_position_embeddings": 24},
    }
    return save(folder, config, tensors)


def save(folder, config, tensors):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    tensors = {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def grown(base, adapter, prefix, folder):
    """The directory of a model with PEFT's matrices in its weights, and its head."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    found = safetensors.numpy.load_file(adapter / "adapter_model.safetensors")
    tensors, head = safetensors.numpy.load_file(base / "model.safetensors"), {}
    for name, tensor in found.items():
        assert name.startswith("base_model.model.")
        module = name.removeprefix("base_model.model.")
        if not module.endswith((".lora_A.weight", ".lora_B.weight")):
            head[module] = tensor
        elif module.endswith(".lora_A.weight"):
            module = module.removesuffix(".lora_A.weight")
            assert module in config["target_modules"] and tensor.shape[0] == config["r"]
            grows = found[name.replace("lora_A", "lora_B")] @ tensor
            tensors[module.removeprefix(prefix) + ".weight"] += config["lora_alpha"] / config["r"] * grows
    return save(folder, json.loads((base / "config.json").read_text()), tensors), head


def classifier(path):
    return heads.sequence_model(presets.find(str(path)), 2, 12, "float32", seed=1)


def language_model(path):
    backbone = keras_hub.models.Llama3Backbone.from_preset(str(path))
    return keras_hub.models.Llama3CausalLM(backbone, preprocessor=None)


def outputs(model, high):
    random = np.random.default_rng(3)
    features = {name: np.ones((3, 6), "int32") for name in model.input}
    features["token_ids"] = random.integers(4, high, (3, 6)).astype("int32")
    return np.array(model(features, training=False))


@pytest.mark.parametrize(
    ("write", "build", "prefix", "variant"),
    [
        (bert, classifier, "bert.", "plain"),
        pytest.param(bert, classifier, "bert.", "pissa+rslora", marks=pytest.mark.slow),
        pytest.param(llama, language_model, "", "plain", marks=pytest.mark.slow),
    ],
)
def test_hugging_faces_weights_grown_by_the_files_answer_alike(write, build, prefix, variant, tmp_path):
    keras.backend.clear_session()
    base = write(tmp_path / "base")
    model, before = build(base), outputs(build(base), 13)
    applied = application.apply(model, "lora:2", {**SETTINGS, "lora_variant": variant})
    random = np.random.default_rng(1)
    for adapter in applied.adapters:
        adapter.part.b.assign(random.normal(size=adapter.part.b.shape))
    found = outputs(model, 13)
    assert np.abs(found - before).max() > 0.01
    (tmp_path / "peft").mkdir()
    peft.write(tmp_path / "peft", model, applied.adapters, str(base))
    folder, head = grown(base, tmp_path / "peft", prefix, tmp_path / "grown")
    other = build(folder)
    if head:
        dense = other.get_layer("logits")
        dense.kernel.assign(head["classifier.weight"].T)
        dense.bias.assign(head["classifier.bias"])
    np.testing.assert_allclose(outputs(other, 13), found, atol=1e-4)

    if variant == "plain":
        again = build(base)
        started = application.apply(again, "lora:2", {**SETTINGS, "lora_start": str(tmp_path / "peft")})
        if head:
            assert started.notes == ("lora_start: not read: " + ", ".join(sorted(
                f"base_model.model.{name}" for name in head)) + ". The head is trained anew.",)  # fmt: skip
            again.get_layer("logits").set_weights(model.get_layer("logits").get_weights())
        np.testing.assert_allclose(outputs(again, 13), found, atol=1e-6)
        for transfer, further, message in (
            ("lora:3", {}, "Its rank is 2: ask for transfer=lora:2"),
            ("lora:2", {"lora_alpha": 2.0}, "found a scale of 1, and .* has 3"),
            ("lora:2", {"lora_targets": "query"}, "belongs to no layer with LoRA in this model"),
            ("ia3", {}, "expected transfer=lora:RANK"),
        ):
            with pytest.raises(RecipeError, match=message):
                application.apply(build(base), transfer, {**SETTINGS, **further, "lora_start": str(tmp_path / "peft")})


@pytest.mark.slow
def test_a_run_is_written_and_another_begins_with_it(message_rows, quick, tiny_preset, tmp_path):
    shared = {"label": "topic", "validation": 0, "max_steps": 4, **quick}
    run = kft.fit(message_rows, transfer="lora:2", out=str(tmp_path / "one"), **shared)
    folder = run.save_peft(tmp_path / "peft")
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    other = kft.fit(message_rows, transfer="lora:2", lora_start=folder, out=str(tmp_path / "two"), **shared)
    assert any("lora_start: not read: base_model.model.classifier" in note for note in other.manifest["notes"])
    folder.rename(tmp_path / "gone")
    assert len(kft.load(other.path).predict(["the parcel is late"])) == 1  # what it began with is in the delta
    with pytest.raises(RunError, match="exists and is not empty"):
        run.save_peft(tmp_path / "gone")
    second = kft.fit(message_rows, transfer="lora:2+norms", out=str(tmp_path / "three"), **shared)
    with pytest.raises(RunError, match="found lora:2.norms, expected lora:RANK alone"):
        second.save_peft(tmp_path / "none")
