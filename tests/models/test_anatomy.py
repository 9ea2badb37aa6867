"""The blocks of every family, from the graph of a tiny random model."""

import keras
import keras_hub
import pytest

from kft.models import anatomy, heads
from kft.models.encoders import SentenceEncoder

SMALL = {"vocabulary_size": 20, "num_layers": 3, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
PLACED = {**SMALL, "max_sequence_length": 12}
GROUPED = {
    **{"vocabulary_size": 20, "num_layers": 3, "num_query_heads": 2, "num_key_value_heads": 1},
    **{"hidden_dim": 8, "intermediate_dim": 16},
}
PLAIN = ("embeddings", "block_1", "block_2", "block_3")
POOLED, NORMED, UNTIED = (*PLAIN, "pooler"), (*PLAIN, "final_norm"), (*PLAIN, "final_norm", "output_embeddings")
ENCODER = ("encoder_block_1", "encoder_block_2", "encoder_block_3")
DECODER = ("decoder_block_1", "decoder_block_2", "decoder_block_3")


def without(settings, name, **further):
    return {**{key: value for key, value in settings.items() if key != name}, **further}


FAMILIES = {
    "Bert": (PLACED, POOLED),
    "DistilBert": (PLACED, PLAIN),
    "Electra": (without(PLACED, "vocabulary_size", vocab_size=20, embedding_dim=4), POOLED),
    "RoformerV2": ({**SMALL, "head_size": 4}, PLAIN),
    "Roberta": (PLACED, PLAIN),
    "XLMRoberta": (PLACED, PLAIN),
    "DebertaV3": ({**PLACED, "bucket_size": 8}, PLAIN),
    "FNet": (without(PLACED, "num_heads"), POOLED),
    "XLNet": (SMALL, PLAIN),
    "Albert": ({**PLACED, "embedding_dim": 4}, ("embeddings", "shared_block_1", "pooler")),
    "GPT2": (PLACED, NORMED),
    "GPTNeoX": ({**PLACED, "rotary_percentage": 0.5}, NORMED),
    "OPT": (PLACED, NORMED),
    "Bloom": (SMALL, NORMED),
    "Falcon": (without(SMALL, "num_heads", num_attention_heads=2), NORMED),
    "Qwen": (GROUPED, NORMED),
    "Qwen3": ({**GROUPED, "head_dim": 4}, NORMED),
    "Llama": (GROUPED, UNTIED),
    "Llama3": (GROUPED, UNTIED),
    "Mistral": (GROUPED, UNTIED),
    "Phi3": (GROUPED, UNTIED),
    "Gemma": ({**GROUPED, "head_dim": 4}, NORMED),
    "T5": (SMALL, ("embeddings", *ENCODER, "encoder_final_norm", *DECODER, "decoder_final_norm")),
    "Bart": (PLACED, ("embeddings", "encoder_embeddings", "decoder_embeddings", *ENCODER, *DECODER)),
}
QUICK = ("Bert", "DebertaV3", "XLNet", "Albert", "GPT2", "Llama", "T5", "Bart")


def backbone_of(family):
    return getattr(keras_hub.models, f"{family}Backbone")(**FAMILIES[family][0])


def names(blocks):
    return tuple(block.name for block in blocks)


def check_each_variable_is_in_one_block(model, blocks):
    found = [id(variable) for block in blocks for variable in block.variables.values()]
    assert len(set(found)) == len(found)
    assert set(found) == {id(variable) for variable in model.variables}
    assert len({path for block in blocks for path in block.variables}) == len(found)


# KerasHub's T5 says of its attention that it does not support masking.
@pytest.mark.filterwarnings("ignore:Layer .* does not support masking:UserWarning")
@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in FAMILIES]
)
def test_blocks_of_a_family_and_of_its_models(family):
    keras.backend.clear_session()
    backbone, expected = backbone_of(family), FAMILIES[family][1]
    blocks = anatomy.blocks(backbone)
    assert names(blocks) == expected
    check_each_variable_is_in_one_block(backbone, blocks)
    for block in blocks:
        if block.role == "block":
            assert block.passes == (3 if family == "Albert" else 1)
            assert str(block.index) == block.name[-1]

    classifier = heads.TokenClassifier(backbone, 2)
    found = anatomy.blocks(classifier)
    assert names(found) == (*expected, "head")
    check_each_variable_is_in_one_block(classifier, found)
    assert {layer.name for layer in found[-1].layers} == {"classifier_dropout", "logits"}
    unread = {block.name for block in found if not block.is_read}
    assert unread == {name for name in expected if name.startswith(("pooler", "decoder", "output"))}

    for kind in ("TextClassifier", "MaskedLM", "CausalLM", "Seq2SeqLM"):
        if not hasattr(keras_hub.models, f"{family}{kind}"):
            continue
        further = {"num_classes": 2} if kind == "TextClassifier" else {}
        model = getattr(keras_hub.models, f"{family}{kind}")(backbone, preprocessor=None, compile=False, **further)
        found = anatomy.blocks(model)
        has_head = len(model.variables) > len(backbone.variables)
        assert names(found) == ((*expected, "head") if has_head else expected)
        assert has_head == (kind not in ("CausalLM", "Seq2SeqLM") and (family, kind) != ("RoformerV2", "MaskedLM"))
        check_each_variable_is_in_one_block(model, found)
        unread = {block.name for block in found if not block.is_read}
        assert unread == ({"pooler"} & set(expected) if kind == "MaskedLM" else set())


def test_heads_of_kft_are_heads():
    backbone = backbone_of("Bert")
    pairs = anatomy.blocks(heads.MaskedPairLM(backbone))
    assert names(pairs) == (*POOLED, "head") and all(block.is_read for block in pairs)
    encoder = anatomy.blocks(SentenceEncoder(backbone))
    assert names(encoder) == POOLED and not encoder[-1].is_read


def test_tied_embeddings_count_once():
    for family in ("GPT2", "Llama"):
        blocks = anatomy.blocks(backbone_of(family))
        tables = [block.name for block in blocks for path in block.variables if path.startswith("token_embedding")]
        assert tables == (["embeddings", "output_embeddings"] if family == "Llama" else ["embeddings"])
