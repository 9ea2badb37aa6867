"""What cannot be used is refused before training: one clear message, and nothing at `out`."""

import random
import resource
import shutil

import keras_hub
import pytest

import kft
from kft import errors

WORDS = ["tea", "soup", "lamp", "chair", "parcel", "invoice", "refund", "courier", "late", "lost"]


def csv_text(labels, texts=WORDS):
    rows = [f"{text},{label}" for text, label in zip(texts, labels, strict=False)]
    return "\n".join(["text,label", *rows, ""])


GOOD = csv_text("ab" * 5)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.fixture
def refusal(tmp_path, tiny_preset):
    """The message with which a fit is refused; checks its kind, that it is one line, and that nothing was written."""

    def refuse(kind, train, **knobs):
        out = tmp_path / "run"
        with pytest.raises(errors.KftError) as caught:
            kft.fit(train, **{"preset": tiny_preset, "out": str(out), "quiet": True, "validation": 0, **knobs})
        assert type(caught.value) is kind
        assert "\n" not in str(caught.value) and not out.exists()
        return str(caught.value)

    return refuse


@pytest.mark.parametrize(
    ("content", "knobs", "message"),
    [
        ("", {}, "is empty (0 bytes)"),
        ("text,label\n", {}, "has a header but no rows"),
        (GOOD, {"text": "txt"}, "has no column 'txt', given as text. Did you mean 'text'?"),
        (GOOD, {"label": "lable"}, "has no column 'lable', given as label. Did you mean 'label'?"),
        (GOOD.replace("\nlamp,a", "\nlamp,"), {}, "rows.csv, row 4: the label is missing (1 of 10 rows have none)"),
        (csv_text("a" * 10), {}, "all 10 rows have the label 'a'; expected at least two"),
        (csv_text("abcdefghij"), {"label": "label"}, "10 of 10 rows have a label in column 'label' that no other row"),
        (csv_text(["1.5", "nan", "2"]), {"task": "regress"}, "rows.csv, row 3: the label is 'nan'; expected a finite"),
        (csv_text(["2"] * 10), {"task": "regress"}, "all 10 targets are 2; expected different numbers"),
        (GOOD.replace("\nlamp,a", "\nlamp,a,b"), {}, "rows.csv, row 4: found 3 fields, expected 2"),
        (GOOD.replace("\nlamp", '\n"lamp"s'), {}, "rows.csv, row 4: text follows the closing quote"),
        (GOOD.replace("\nlamp", '\n"lamp'), {}, "rows.csv, row 4: a quoted field opens here and is never closed"),
        (GOOD.encode().replace(b"lamp", b"l\xe4mp"), {}, "rows.csv, row 4: byte 0xe4 at byte offset 25 is not UTF-8"),
        (GOOD.replace("lamp", "la\0mp"), {}, "rows.csv, row 4: holds a NUL byte"),
        (GOOD, {"validation": 0.1}, "validation=0.1 of 10 rows gives 1; expected at least 2"),
    ],
)
def test_unusable_files_are_refused_with_their_place(refusal, tmp_path, content, knobs, message):
    assert message in refusal(errors.DataError, write(tmp_path / "rows.csv", content), **knobs)


def test_a_missing_file_is_refused_with_the_nearest_name(refusal, tmp_path):
    write(tmp_path / "reviews.csv", GOOD)
    message = refusal(errors.DataError, str(tmp_path / "review.csv"))
    assert "the train data does not exist. Did you mean 'reviews.csv'?" in message


def test_a_target_that_is_not_a_number_in_memory_is_refused(refusal):
    rows = [{"text": word, "label": float(i)} for i, word in enumerate(WORDS)]
    rows[3]["label"] = float("nan")
    assert "<list>, row 4: the label is nan" in refusal(errors.DataError, rows, task="regress")


def test_a_label_that_only_the_test_rows_have_is_refused(refusal, tmp_path):
    test = write(tmp_path / "test.csv", "text,label\nsomething else,a\nanother,bb\n")
    message = refusal(errors.DataError, write(tmp_path / "train.csv", GOOD), test=test)
    assert "test.csv, row 3: label 'bb' of the test data is unknown in the training data" in message


def test_training_rows_among_the_test_rows_need_a_word(refusal, tmp_path):
    train = write(tmp_path / "train.csv", GOOD)
    test = write(tmp_path / "test.csv", "text,label\nTea ,a\nnew,b\n")
    message = refusal(errors.DataError, train, test=test)
    assert "test.csv, row 2: has the text of" in message and "train.csv, row 2; 1 of 2 rows" in message
    assert "--allow-leaks" in message
    notes = kft.check(train, test=test, validation=0, allow_leaks=True).notes
    assert any("1 of 2 rows" in note for note in notes)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    found = kft.check(write(tmp_path / "rows.csv", b"\xef\xbb\xbf" + GOOD.encode()), validation=0)
    assert found.columns == {"text": "text", "label": "label"} and len(found.parts["train"]) == 10


def test_odd_texts_are_allowed_counted_and_noted(tmp_path):
    texts = ["x" * 65_536, "", "", *WORDS[:7]]
    found = kft.check(write(tmp_path / "rows.csv", csv_text("ab" * 5, texts)), validation=0)
    assert len(found.parts["train"]) == 10
    notes = "\n".join(found.notes)
    assert "row 2: the text is over 20,000 characters long (1 row of 10 like this)" in notes
    assert "row 3: the text is empty or only white space (2 rows of 10 like this)" in notes


def test_repeated_and_contradicting_rows_are_noted_with_counts(tmp_path):
    content = csv_text("aabbbaabb", ["tea", "tea", "tea", *WORDS[1:7]])
    notes = "\n".join(kft.check(write(tmp_path / "rows.csv", content), validation=0).notes)
    assert "row 3: repeats row 2 exactly (1 row of 9 repeat another)" in notes
    assert "row 4: has the text of row 2 but another label (3 rows of 9 contradict another)" in notes


def test_an_unknown_preset_gets_the_nearest_name(refusal, tmp_path):
    train = write(tmp_path / "rows.csv", GOOD)
    message = refusal(errors.PresetError, train, preset="bert_tiny_en_uncase")
    assert "unknown preset 'bert_tiny_en_uncase'. Did you mean 'bert_tiny_en_uncased'?" in message
    (tmp_path / "empty").mkdir()
    assert "no config.json (found nothing)" in refusal(errors.PresetError, train, preset=str(tmp_path / "empty"))


def test_a_model_of_images_is_refused(refusal, tmp_path):
    train = write(tmp_path / "rows.csv", GOOD)
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64],
        stackwise_num_blocks=[1],
        stackwise_num_strides=[1],
        block_type="basic_block",
        image_shape=(16, 16, 3),
    )
    backbone.save_to_preset(str(tmp_path / "resnet"))
    for preset in ("resnet_50_imagenet", str(tmp_path / "resnet")):
        message = refusal(errors.PresetError, train, preset=preset)
        assert "not a text model" in message and "ResNetBackbone" in message


def test_a_length_past_the_positions_of_the_backbone_is_refused(refusal, message_rows):
    message = refusal(errors.RecipeError, message_rows, label="topic", max_length=65)
    assert "max_length: found 65" in message and "64 positions" in message


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"epoch": 3}, "unknown knob 'epoch'. Did you mean 'epochs'?"),
        ({"epochs": 0}, "epochs: found 0"),
        ({"batch_size": "many"}, "batch_size: found 'many'"),
        ({"learning_rate": -1e-3}, "learning_rate: found -0.001: expected a number above 0"),
        ({"learning_rate": 1e300}, "learning_rate: found 1e+300: expected a number above 0, at most 10, or auto"),
        ({"head_learning_rate": float("inf")}, "head_learning_rate: found inf"),
        ({"label_smoothing": 1.0}, "label_smoothing: found 1.0"),
        ({"validation": 1.5}, "validation: found 1.5"),
        ({"max_length": 4}, "max_length: found 4: expected at least 8 tokens"),
        ({"transfer": "feature"}, "Did you mean 'features'?"),
        ({"task": "clasify"}, "task: found 'clasify': unknown task. Did you mean 'classify'?"),
        ({"class_weights": {"a": 1, "c": 2}}, "class_weights: found"),
        ({"validation": 0.3, "save_best_by": "acuracy"}, "Did you mean 'accuracy'?"),
        ({"validation": 0.5, "test": 0.5}, "leave no training rows"),
    ],
)
def test_a_wrong_knob_is_named(refusal, tmp_path, knobs, message):
    assert message in refusal(errors.RecipeError, write(tmp_path / "rows.csv", GOOD), **knobs)


def test_no_knob_takes_infinity_or_nan():
    floats = [name for name, field in kft.Recipe.model_fields.items() if "float" in str(field.annotation)]
    assert {"learning_rate", "weight_decay", "class_weights", "temperature", "validation"} <= set(floats)
    for name in floats:
        for number in (float("inf"), -float("inf"), float("nan")):
            with pytest.raises(errors.RecipeError, match=f"^{name}: found"):
                kft.Recipe.of(**{name: {"a": number} if name == "class_weights" else number})


@pytest.mark.parametrize(
    ("held", "message"), [("recipe.json", "already holds a run"), ("notes.txt", "exists and is not empty")]
)
def test_an_occupied_directory_is_left_as_it_is(tmp_path, tiny_preset, held, message):
    out = tmp_path / "run"
    out.mkdir()
    write(out / held, "{}")
    with pytest.raises(errors.RunError, match=message):
        kft.fit(write(tmp_path / "rows.csv", GOOD), preset=tiny_preset, out=str(out), quiet=True)
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [(held, "{}")]


@pytest.mark.parametrize("place", ["rows.csv/run", "/proc/run"])
def test_a_place_that_cannot_be_written_is_refused(refusal, tmp_path, place):
    message = refusal(errors.RunError, write(tmp_path / "rows.csv", GOOD), out=str(tmp_path / place))
    assert f"{tmp_path / place}: cannot be written" in message and "Choose another --out" in message


def test_a_disk_without_room_for_the_tokens_is_refused(refusal, message_rows, tmp_path, monkeypatch):
    monkeypatch.setenv("KFT_CACHE", str(tmp_path / "cache"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        message = refusal(errors.RunError, message_rows, text="text", label="topic")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert message.startswith(f"{tmp_path}/cache: File too large. Free some space, or set KFT_CACHE and TMPDIR")
    assert not any((tmp_path / "cache" / "tokens").iterdir())


def test_rows_of_the_wrong_kind_are_refused_by_a_finished_run(topic_run):
    with pytest.raises(errors.DataError, match="row 2: found 2 texts, expected 1"):
        topic_run.predict([("one",), ("one", "two")])
    with pytest.raises(errors.DataError, match="label 'weather' of the evaluation data is unknown"):
        topic_run.evaluate([{"text": "rain", "topic": "weather"}])
    with pytest.raises(errors.DataError, match="row 2: the text is missing"):
        topic_run.predict([{"text": "rain"}, {"text": None}])


@pytest.mark.parametrize("name", ["manifest.json", "preset/model.weights.h5"])
def test_a_damaged_run_is_not_opened(topic_run, tmp_path, name):
    run = shutil.copytree(topic_run.path, tmp_path / "copy")
    content = bytearray((run / name).read_bytes())
    content[random.Random(0).randrange(len(content) // 2)] ^= 255
    (run / name).write_bytes(content)
    with pytest.raises(errors.RunError, match=name):
        kft.load(run)


def test_a_folder_without_a_run_is_not_opened(tmp_path):
    with pytest.raises(errors.RunError, match=r"no run is here \(no recipe.json\)"):
        kft.load(tmp_path)
