"""A tiny pretrained model, rows that it can learn, and one finished run of each kind, all made once per session."""

import gc
import itertools
import os
import random
import string

import hypothesis
import pytest

FUZZ_EXAMPLES = int(os.environ.get("KFT_FUZZ_EXAMPLES", "0"))
hypothesis.settings.register_profile(
    "fuzz",  # for tests that feed odd input to a reader: `@settings.get_profile("fuzz")`
    max_examples=FUZZ_EXAMPLES or 20,
    derandomize=not FUZZ_EXAMPLES,  # the same few each time, unless more are asked for
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)

TOPICS = {"delivery": ["parcel", "courier"], "billing": ["invoice", "refund"], "product": ["lamp", "chair"]}
PROBLEMS = ["is late", "is wrong", "was lost", "was not good", "came too late again"]
DEADLINES = {"when you can": 0.125, "this week please": 1.5, "today": 3.75, "now i am very very angry": 5.25}
MEALS = ["tea", "soup"]
VERDICTS = ["good", "bad"]
FURTHER_WORDS = ["the", "my", "same", "other", "was"]


def vocabulary() -> list[str]:
    """Special tokens, every word of the rows below and of the tuner's, and the letters for what is left."""
    phrases = [*itertools.chain(*TOPICS.values()), *PROBLEMS, *DEADLINES, *MEALS, *VERDICTS, *FURTHER_WORDS]
    words = [*" ".join(phrases).split(), *string.ascii_lowercase, *",.!?"]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(words)]


@pytest.fixture(scope="module", autouse=True)
def released():
    """After each file, networks that only reference cycles keep alive are freed: a worker runs many files."""
    yield
    gc.collect()


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory):
    """Token stores of the tests, away from the user's."""
    path = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KFT_CACHE", str(path))
        yield path


@pytest.fixture(scope="session")
def tiny_bert():
    """(Directory, further tokens) to a KerasHub preset in it: a BERT of two layers that knows the tests' words."""
    import keras
    import keras_hub

    def save(path, *further):
        words = [*vocabulary(), *further]
        keras.utils.set_random_seed(0)
        backbone = keras_hub.models.BertBackbone(
            vocabulary_size=len(words),
            num_layers=2,
            num_heads=2,
            hidden_dim=16,
            intermediate_dim=32,
            max_sequence_length=64,
        )
        # Keras's initial weights are so small that a model this narrow would first spend an epoch growing them.
        backbone.set_weights([10 * weight if weight.ndim > 1 else weight for weight in backbone.get_weights()])
        backbone.save_to_preset(str(path))
        keras_hub.models.BertTokenizer(vocabulary=words, lowercase=True).save_to_preset(str(path))
        return str(path)

    return save


@pytest.fixture(scope="session")
def tiny_preset(tiny_bert, tmp_path_factory):
    """The directory of such a preset."""
    return tiny_bert(tmp_path_factory.mktemp("presets") / "tiny")


@pytest.fixture(scope="session")
def message_rows():
    """60 different customer messages: the noun gives the topic, the deadline the urgency."""
    draw = random.Random(0)
    rows = []
    for topic, nouns in TOPICS.items():
        every = list(itertools.product(nouns, PROBLEMS, DEADLINES))
        for noun, problem, deadline in draw.sample(every, 20):
            rows.append({"text": f"the {noun} {problem} {deadline}", "topic": topic, "urgency": DEADLINES[deadline]})
    draw.shuffle(rows)
    return rows


@pytest.fixture(scope="session")
def corpus(message_rows):
    """60 paragraphs of three sentences each."""
    texts = [row["text"] for row in message_rows]
    return [f"{text}. {texts[i - 1]}! {texts[i - 2]}." for i, text in enumerate(texts)]


@pytest.fixture(scope="session")
def pair_rows():
    """60 different pairs of messages: `same` where both are about one thing, else `other`."""
    draw = random.Random(1)
    nouns = list(itertools.chain(*TOPICS.values()))
    pairs = draw.sample(list(itertools.permutations(itertools.product(PROBLEMS, DEADLINES), 2)), 60)
    rows = []
    for number, ((problem, deadline), (other_problem, other_deadline)) in enumerate(pairs):
        noun, other = draw.sample(nouns, 2)
        second = noun if number % 2 else other
        label = "same" if number % 2 else "other"
        first_text, second_text = f"the {noun} {problem} {deadline}", f"my {second} {other_problem} {other_deadline}"
        rows.append({"text": first_text, "text_pair": second_text, "label": label})
    return rows


@pytest.fixture(scope="session")
def quick(tiny_preset):
    """Knobs under which the tiny model learns the rows above in a second or two."""
    rate = {"learning_rate": 5e-3, "schedule": "constant"}
    return {"preset": tiny_preset, "batch_size": 8, "precision": "float32", "quiet": True, **rate}


@pytest.fixture(scope="session")
def fitted_once(tmp_path_factory, worker_id):
    """(Name, what `kft.fit` is given) to the finished run, which the processes that run the tests share."""
    import filelock

    import kft

    root = tmp_path_factory.getbasetemp()
    runs = root if worker_id == "master" else root.parent

    def fit(name, train, **knobs):
        out = runs / f"{name}-run"
        with filelock.FileLock(f"{out}.lock"):
            return kft.load(out) if out.exists() else kft.fit(train, out=str(out), **knobs)

    return fit


@pytest.fixture(scope="session")
def topic_run(message_rows, quick, fitted_once):
    """A finished fit of the topics, with validation and test rows."""
    columns, shares = {"text": "text", "label": "topic"}, {"validation": 0.2, "test": 0.2}
    return fitted_once("topics", message_rows, epochs=20, **columns, **shares, **quick)


@pytest.fixture(scope="session")
def urgency_run(message_rows, quick, fitted_once):
    """A finished fit of the urgency, with test rows and no validation rows."""
    columns, shares = {"text": "text", "label": "urgency"}, {"validation": 0, "test": 0.2}
    return fitted_once("urgency", message_rows, epochs=20, **columns, **shares, **quick)


@pytest.fixture(scope="session")
def pair_run(pair_rows, quick, fitted_once):
    """A finished fit of two texts."""
    return fitted_once("pairs", pair_rows, epochs=2, validation=0.2, **quick)
