"""Editors and type checkers see the knobs, with the names and types that the Recipe has."""

import subprocess
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

import kft
from kft.keywords import Knobs, SharedKnobs
from kft.recipe import Recipe

ROOT = Path(kft.__file__).parents[1]
WIDER = {
    **{"validation": Any, "test": Any, "preset": str | Path, "data_dir": str | Path | None, "out": str | Path | None},
    "lora_start": str | Path | None,
    **{"stop": str | Sequence[str], "lora_targets": str | Sequence[str], "lora_variant": str | Sequence[str]},
    "aux": Mapping[str, Any] | Sequence[Mapping[str, Any]],
    "retain": str | Path | Mapping[str, Any] | Sequence[str | Path | Mapping[str, Any]],
    "accelerate": bool | str | Sequence[str],
    "class_weights": Literal["balanced"] | Mapping[str, float] | Mapping[int, float] | Mapping[float, float] | None,
}
SAMPLE = """
from pathlib import Path
import kft
run: kft.Run = kft.fit("rows.csv", epochs=2, out=Path("run"), validation=[{"text": "a"}], class_weights={1: 2.0})
study = kft.tune("rows.csv", space={"epochs": [1, 2]}, seed=1, batch_size=8)
forecast = kft.plan("rows.csv", learning_rate="auto", decoding="beam", stop="x")
kft.fit("rows.csv", epoch=2)
kft.check("rows.csv", epochs="two")
kft.plan("rows.csv", schedule="linaer")
kft.tune("rows.csv", save_best=1)
"""


def test_the_keywords_are_the_fields_of_the_recipe_and_their_types():
    keywords = typing.get_type_hints(Knobs)
    fields = {name: field.annotation for name, field in Recipe.model_fields.items() if name != "train"}
    assert keywords == {**fields, **WIDER}
    assert set(keywords) - set(typing.get_type_hints(SharedKnobs)) == {"out", "seed"}  # tune has them by itself


@pytest.mark.slow
def test_mypy_knows_the_names_and_types_of_knobs(tmp_path):
    (tmp_path / "sample.py").write_text(SAMPLE)
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(tmp_path / "sample.py")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    told = [line for line in done.stdout.splitlines() if "sample.py" in line and "error" in line]
    assert [line.split(":")[1] for line in told] == ["7", "8", "9", "10"], done.stdout + done.stderr
    assert 'Unexpected keyword argument "epoch" for "fit"' in told[0]
    assert 'Argument "epochs" to "check" has incompatible type "str"; expected "int"' in told[1]
    assert "expected \"Literal['linear', 'cosine', 'constant']\"" in told[2]
    assert 'Unexpected keyword argument "save_best" for "tune"' in told[3]
