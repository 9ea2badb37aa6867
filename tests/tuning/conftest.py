import csv
import random
import string

import pytest

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "tea", "soup", "was", "good", "bad"]


@pytest.fixture(scope="session")
def tiny_preset(tmp_path_factory):
    """A BERT of two layers that knows eleven words and the letters."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("presets") / "tiny"
    vocabulary = [*WORDS, *string.ascii_lowercase]
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(vocabulary),
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=64,
    )
    backbone.save_to_preset(str(path))
    keras_hub.models.BertTokenizer(vocabulary=vocabulary).save_to_preset(str(path))
    return str(path)


@pytest.fixture(scope="session")
def meals(tmp_path_factory):
    """A file of 80 different sentences about tea and soup, half of them good."""
    draw = random.Random(0)
    path = tmp_path_factory.mktemp("rows") / "meals.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["message", "category"])
        for row in range(80):
            letters = " ".join(draw.sample(string.ascii_lowercase, 4))
            meal, verdict = draw.choice(["tea", "soup"]), "good" if row % 2 else "bad"
            writer.writerow([f"the {meal} {letters} was {verdict}", verdict])
    return str(path)
