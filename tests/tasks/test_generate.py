import json

import keras_hub
import numpy as np
import pytest
import tensorflow as tf

import kft
from kft import job
from kft.data import columns
from kft.data.clean import clean
from kft.data.task_columns import decide
from kft.errors import ExportError, PresetError, RecipeError
from kft.readers import formats
from kft.run import Run
from kft.tasks import generate
from kft.tasks.generate import GENERATE
from kft.text import generation as graph
from kft.text.prompts import SEPARATOR

PAIRS = {"what is tea?": "a drink", "and soup?": "a dish.", "and a cup?": "a thing", "who drinks it?": "we do"}
ROWS = [{"prompt": prompt, "response": response} for prompt, response in PAIRS.items()]
LENGTHS = {"max_length": 48, "max_new_tokens": 10}


def byte_pair(name, *special):
    """A tokenizer that knows every byte, and `th`."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (chr(256 + number) for number in range(256))
    letters = [chr(byte) if byte in plain else next(others) for byte in range(256)]
    vocabulary = {token: number for number, token in enumerate([*letters, "th", *special])}
    return getattr(keras_hub.tokenizers, f"{name}Tokenizer")(vocabulary=vocabulary, merges=["t h"])


def save_preset(name, path, *special):
    import keras

    keras.utils.set_random_seed(0)
    tokenizer = byte_pair(name, *special)
    size = {"num_layers": 2, "num_heads": 2, "hidden_dim": 32, "intermediate_dim": 64, "max_sequence_length": 96}
    backbone = getattr(keras_hub.models, f"{name}Backbone")(
        vocabulary_size=tokenizer.vocabulary_size(), dropout=0.0, **size
    )
    # Keras's initial weights are so small that a model this narrow would first spend epochs growing them.
    backbone.set_weights([5 * weight if weight.ndim > 1 else weight for weight in backbone.get_weights()])
    backbone.save_to_preset(path)
    tokenizer.save_to_preset(path)
    return path


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return save_preset("GPT2", str(tmp_path_factory.mktemp("presets") / "gpt2"), "<|endoftext|>")


@pytest.fixture(scope="module")
def bart(tmp_path_factory):
    return save_preset("Bart", str(tmp_path_factory.mktemp("presets") / "bart"), "<s>", "<pad>", "</s>")


def learnt(rows, preset, tmp_path_factory, quick, **knobs):
    out = str(tmp_path_factory.mktemp("runs") / "responses")
    knobs = {**quick, "preset": preset, "out": out, "epochs": 4, **LENGTHS, **knobs}
    return kft.fit(rows * 40, validation=rows, task="generate", **knobs)


@pytest.fixture(scope="module")
def run(gpt2, quick, tmp_path_factory):
    return learnt(ROWS, gpt2, tmp_path_factory, quick)


def with_settings(run, **settings):
    """The run with other ways to respond."""
    labels = {"generation": {**run.labels["generation"], **settings}}
    return Run(run.path, GENERATE.restore(labels, run.recipe), run.manifest)


@pytest.mark.slow
def test_responses_are_learnt(run):
    assert [answer["text"] for answer in run.predict(list(PAIRS))] == list(PAIRS.values())
    assert run.metrics["validation"]["exact_match"] == run.metrics["validation"]["rougeL"] == 1.0
    assert run.evaluate(ROWS)["chrf"] == pytest.approx(100)
    epochs = [json.loads(line) for line in (run.path / "history.jsonl").read_text().splitlines()]
    last = [record for record in epochs if record["kind"] == "epoch"][-1]
    assert last["val_perplexity"] == pytest.approx(np.exp(last["val_loss"]))


@pytest.fixture(scope="module")
def packed_and_not(gpt2, quick, tmp_path_factory):
    """Two fits of two steps, each step of all rows, on lines and by themselves."""
    shared = {**quick, **LENGTHS, "preset": gpt2, "max_steps": 2, "batch_size": 64, "validation": 0, "task": "generate"}
    out = tmp_path_factory.mktemp("runs")
    return [kft.fit(ROWS * 5, out=str(out / str(p)), packing=p, **shared) for p in (True, False)]


@pytest.mark.slow
def test_packed_rows_are_learnt_as_rows_by_themselves(packed_and_not):
    histories = [(run.path / "history.jsonl").read_text().splitlines() for run in packed_and_not]
    steps = [[r for r in map(json.loads, lines) if r["kind"] == "step"] for lines in histories]
    assert len(steps[0]) == 2
    for on_lines, alone in zip(*steps, strict=True):
        assert on_lines["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        assert on_lines["gradient_norm"] == pytest.approx(alone["gradient_norm"], rel=1e-4)


@pytest.mark.slow
def test_packed_runs_are_judged_and_answer_as_others(packed_and_not):
    packed, alone = packed_and_not
    assert packed.evaluate(ROWS)["perplexity"] == pytest.approx(alone.evaluate(ROWS)["perplexity"], rel=1e-3)
    assert packed.predict("and soup?")[0].keys() == {"text"}


@pytest.mark.slow
def test_packing_is_refused_where_rows_could_see_each_other(bart):
    with pytest.raises(PresetError, match="packing: found a BartBackbone, whose rows it cannot keep apart on one line"):
        kft.plan(ROWS, task="generate", preset=bart, packing=True, validation=0)


@pytest.mark.slow
def test_an_encoder_and_a_decoder_learn_them_too(bart, quick, tmp_path_factory):
    rows = [{"text": prompt, "summary": response} for prompt, response in PAIRS.items()]
    run = learnt(rows, bart, tmp_path_factory, quick)
    assert [answer["text"] for answer in run.predict(list(PAIRS))] == list(PAIRS.values())
    assert run.model.preprocessor.encoder_sequence_length == 48
    assert isinstance(keras_hub.models.Seq2SeqLM.from_preset(str(run.path / "preset")), type(run.model))


@pytest.mark.slow
def test_greedy_responses_are_the_same_every_time(run):
    prompts = [*PAIRS, "something else", ""]
    first = run.predict(prompts)
    assert run.predict(prompts) == first
    assert run.predict(prompts, batch_size=2) == first
    assert [run.predict(prompt)[0] for prompt in prompts] == first
    assert kft.load(run.path).predict(prompts) == first


@pytest.mark.slow
def test_responses_are_cut_at_the_first_stop_text(run):
    prompts = list(PAIRS)
    cut = [answer["text"] for answer in with_settings(run, stop=["in", "."]).predict(prompts)]
    assert cut == ["a dr", "a dish", "a th", "we do"]
    assert with_settings(run, max_new_tokens=3).predict(prompts[0])[0]["text"] == "a d"
    assert with_settings(run, decoding="beam").predict(prompts[0])[0]["text"] == "a drink"


@pytest.mark.slow
def test_the_export_responds_the_same(run, tmp_path):
    version = run.export(tmp_path / "saved_models" / "responses")
    contract = json.loads((version / "assets.extra" / "kft.json").read_text())
    assert contract["task"] == "generate" and contract["inputs"] == ["prompt"]
    loaded = tf.saved_model.load(str(version))
    found = loaded.signatures["serving_default"](prompt=tf.constant(list(PAIRS)))["text"]
    assert [text.decode() for text in found.numpy()] == list(PAIRS.values())


@pytest.mark.slow
def test_drawn_responses_are_not_exported(run, tmp_path):
    with pytest.raises(ExportError, match=r"drawn at random \(decoding=top_p\).*Fit with decoding=greedy or beam"):
        with_settings(run, decoding="top_p").export(tmp_path / "saved_models" / "drawn")
    assert not (tmp_path / "saved_models").exists()


def encoded(run, prompt, response, is_graph=True):
    function = lambda *texts: graph.encode(run.model.preprocessor, texts)  # noqa: E731
    function = tf.function(function) if is_graph else function
    return {name: value.numpy()[0] for name, value in function(tf.constant([prompt]), tf.constant([response])).items()}


@pytest.mark.slow
def test_tokens_stand_where_the_template_has_them(run):
    ids = {token: number for number, token in enumerate(run.model.preprocessor.tokenizer.get_vocabulary())}
    of = lambda text: [ids[{" ": "Ġ", "\n": "Ċ"}.get(letter, letter)] for letter in text]  # noqa: E731
    end = ids["<|endoftext|>"]
    found = encoded(run, "a b", "cd")
    whole = [end, *of("a b" + SEPARATOR + "cd"), end]
    assert found["token_ids"].tolist() == whole[:-1]
    assert found["target_ids"].tolist() == [-1] * (len(whole) - 4) + whole[-3:]
    assert found["padding_mask"].sum() == len(whole) - 1

    # What is too long is cut from the start of the prompt: 48 tokens are read, and the last that is learnt ends it.
    found = encoded(run, "x" * 60 + "y", "z" * 20)
    assert found["token_ids"].tolist() == [end, *of("x" * (26 - len(SEPARATOR)) + "y" + SEPARATOR + "z" * 20)]
    assert found["target_ids"][-21:].tolist() == [*of("z" * 20), end]
    # Only a response that is longer than that itself loses its end.
    found = encoded(run, "x", "z" * 60)
    assert found["target_ids"].tolist() == [-1] * len(SEPARATOR) + of("z" * (48 - len(SEPARATOR)))


@pytest.mark.slow
def test_responses_that_are_cut_are_counted(gpt2, quick):
    rows = [*ROWS, {"prompt": "x", "response": "z" * 60}] * 2
    knobs = {"preset": gpt2, "validation": 0, "task": "generate", **LENGTHS}
    ready = job.prepare(kft.Recipe.of(**knobs), {"train": rows, "validation": 0, "test": None})
    assert ready.data.notes[-1].startswith("train: 2 of 10 responses do not fit into max_length=48;")


def prepared(rows):
    table = formats.read(rows)
    schema = GENERATE.schema
    chosen = columns.choose(table, schema.columns, {})
    return schema.prepare(clean(columns.canonical(table, chosen), schema.columns))


@pytest.mark.slow
def test_conversations_are_predicted_by_a_run_of_prompts(run):
    [answer] = run.predict([{"messages": [{"role": "user", "content": "what is tea?"}]}])
    assert answer["text"] == "a drink"


def test_knobs_that_do_not_fit_are_refused(tiny_preset):
    with pytest.raises(RecipeError, match="packing is for task generate, not for classify"):
        kft.check([{"text": f"{i}", "label": "ab"[i % 2]} for i in range(9)], packing=True, validation=0)
    with pytest.raises(RecipeError, match="transfer=features trains a new head on a frozen backbone"):
        kft.check(ROWS, task="generate", validation=0, transfer="features")
    with pytest.raises(RecipeError, match="label_smoothing is for task classify and relate, not for generate"):
        kft.check(ROWS, task="generate", validation=0, label_smoothing=0.1)
    with pytest.raises(RecipeError, match="decoding: found 'gredy'"):
        kft.check(ROWS, task="generate", validation=0, decoding="gredy")
    with pytest.raises(RecipeError, match="stop: found .*: expected texts of one character or more"):
        kft.check(ROWS, task="generate", validation=0, stop=["a", ""])
    with pytest.raises(RecipeError, match="Expected one of: loss, perplexity"):
        kft.plan(ROWS, task="generate", save_best_by="rouge1", validation=ROWS)


@pytest.mark.parametrize(
    ("names", "task"),
    [
        (("prompt", "response"), "generate"),
        (("text", "summary"), "generate"),
        (("source", "target"), "generate"),
        (("text", "label"), "classify"),
        (("question", "answer"), "generate"),
    ],
)
def test_the_task_is_read_off_the_columns(names, task):
    table = formats.read([dict.fromkeys(names, "a")])
    found, why = decide(table, {})
    assert found == task
    given = {"prompt": names[0], "response": names[1]}
    assert decide(table, given)[0] == "generate"
    assert names[1] in why


@pytest.mark.slow
def test_the_worst_texts_are_shown(run):
    table = prepared(ROWS)
    texts = np.array([b"a drink", b"x", b"a thing", b""], object)
    _, worst = generate.view({"text": texts}, table)
    assert [(row["texts"], row["truth"], row["answer"]) for row in worst] == [
        (["and soup?"], "a dish.", "x"),
        (["who drinks it?"], "we do", "nothing"),
    ]
