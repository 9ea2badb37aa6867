"""Benchmarks by way of the Hugging Face library, which is not let near a network."""

import sys
import types

from kft.datasets import loading
from tests.datasets.test_registry import refusal, rows_of


def library(monkeypatch, load_dataset):
    """Puts a module in place of the library, which these tests must not let near a network."""
    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)


def test_without_a_directory_the_library_is_asked(monkeypatch):
    asked = []

    def load_dataset(*arguments, **options):
        asked.append((arguments, options))
        return [{"premise": "Tea.", "hypothesis": "A tea.", "label": "entailment", "idx": 0}]

    library(monkeypatch, load_dataset)
    table = loading.read("glue:mnli", "test", None)
    assert rows_of(table) == [("Tea.", "A tea.", "entailment")] and table.source == "<glue:mnli test>"
    loading.read("xnli:sw", "validation", None)
    assert asked == [
        (("nyu-mll/glue", "mnli"), {"split": "validation_mismatched"}),
        (("facebook/xnli", "sw"), {"split": "validation"}),
    ]


def test_labels_and_numbers_of_the_library_are_read_alike(monkeypatch):
    library(monkeypatch, lambda *_, **__: [{"sentence": "Tea", "label": 1}, {"sentence": "No", "label": "negative"}])
    assert rows_of(loading.read("glue:sst2", "train", None)) == [("Tea", "positive"), ("No", "negative")]
    library(monkeypatch, lambda *_, **__: [{"sentence1": "Tea", "sentence2": "A tea", "label": 3.5}])
    assert rows_of(loading.read("glue:stsb", "train", None)) == [("Tea", "A tea", "3.5")]


def test_a_missing_library_and_a_failing_download_are_one_clear_refusal(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    found = refusal("glue:sst2", "train", None)
    assert "no data_dir is given" in found and "pip install 'kft[hub]'" in found and "--data-dir" in found

    def load_dataset(*_, **__):
        raise ConnectionError("no route\nto the host")

    library(monkeypatch, load_dataset)
    found = refusal("glue:sst2", "train", None)
    assert "cannot fetch nyu-mll/glue (ConnectionError: no route to the host)" in found and "data_dir=" in found
