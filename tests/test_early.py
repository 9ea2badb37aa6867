"""What knobs, paths and columns say is refused before TensorFlow is loaded, in the words of later checks."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

import kft
from kft.cli import main

ROWS = "text,topic\n" + "".join(f"my parcel {i},{'ab'[i % 2]}\n" for i in range(20))
REFUSED = {
    "a wrong column": (["fit", "rows.csv", "--label", "topik"], 3, "no column 'topik', given as label. Did you mean"),
    "no column that could be the label": (["fit", "plain.csv"], 3, "cannot tell which column is the label"),
    "columns of no one task": (["fit", "rows.csv", "--label", "topic", "--answers", "text"], 2, "to no one task"),
    "a column of another task": (["fit", "rows.csv", "--task", "tag", "--answers", "text"], 2, "answers is for task"),
    "a knob of another task than the columns ask for": (["fit", "rows.csv", "--label", "topic", "--mask-rate", ".2"], 2,
     "mask_rate is for task pretrain, not for classify. Leave it out, or name another task"),
    "a knob of another task than the benchmark's": (["plan", "glue:sst2", "--stop", "."], 2, "is for task generate"),
    "a knob that another leaves without use": (["check", "rows.csv", "--num-beams", "2"], 2, "with decoding=beam only"),
    "a searched knob without use": (["tune", "rows.csv", "--label", "topic", "--space", "mask_rate=0.1,0.2"], 2,
     "space: mask_rate is for task pretrain, not for classify"),
    "a missing file": (["check", "row.csv"], 3, "the train data does not exist. Did you mean 'rows.csv'?"),
    "missing validation rows": (["plan", "rows.csv", "--validation", "dev.csv"], 3, "the validation data does not"),
    "an unknown ending": (["fit", "rows.xyz"], 3, "the ending '.xyz' names no known format"),
    "a damaged file": (["fit", "damaged.csv"], 3, "damaged.csv, row 2: found 1 field, expected 2"),
    "an unknown task": (["fit", "rows.csv", "--task", "clasify"], 2, "unknown task. Did you mean 'classify'?"),
    "an unknown knob": (["fit", "rows.csv", "--epochs", "0"], 2, "epochs: found"),
    "an unknown benchmark": (["fit", "glue:sst"], 2, "unknown benchmark 'glue:sst'. Did you mean 'glue:sst2'?"),
    "an occupied directory": (["fit", "rows.csv", "--out", "full"], 5, "full exists and is not empty"),
    "a directory of 300 characters": (["fit", "rows.csv", "--out", "x" * 300], 5, "name"),
    "a preset that is not there": (["fit", "rows.csv", "--preset", "models/mine"], 4, "'models/mine': no directory is"),
    "a preset without files": (["fit", "rows.csv", "--preset", "full"], 4, "the directory has no config.json"),
    "a search": (["tune", "rows.csv", "--label", "topik"], 3, "no column 'topik', given as label"),
    "a run that is not there": (["predict", "runs/missing", "a"], 5, "no run is here"),
    "a file asked as a text": (["predict", "runs/missing", "rows.csv"], 3, "is the name of a file. Give --input"),
    "a name that is not UTF-8": (["fit", "rows.csv", "--out", "run\udce9"], 2, "out: found 'run\\udce9': expected"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text(ROWS)
    (tmp_path / "plain.csv").write_text(ROWS.replace("topic", "other"))
    (tmp_path / "rows.xyz").write_text(ROWS)
    (tmp_path / "damaged.csv").write_text("text,topic\na\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    return tmp_path


@pytest.mark.parametrize("case", REFUSED)
def test_each_is_one_line_and_its_exit_code(folder, case):
    arguments, code, message = REFUSED[case]
    before = sorted(folder.iterdir())
    found = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert (found.exit_code, found.stdout) == (code, "") and message in found.stderr
    assert found.stderr.startswith("error: ") and found.stderr.count("\n") == 1
    assert sorted(folder.iterdir()) == before


def test_none_of_them_loads_tensorflow(folder):
    script = """
import sys, kft
from kft.cli import main
for arguments in {cases!r}:
    try:
        main(arguments)
    except SystemExit as end:
        assert end.code, arguments
    assert not {{"tensorflow", "keras"}} & {{*sys.modules}}, arguments
try:
    kft.fit("rows.csv", label="topik")
except kft.errors.DataError:
    assert not {{"tensorflow", "keras"}} & {{*sys.modules}}
    print("refused")
"""
    cases = [arguments for arguments, *_ in REFUSED.values()]
    found = subprocess.run(
        [sys.executable, "-c", script.format(cases=cases)], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0 and found.stdout == "refused\n", found.stderr


def test_columns_of_a_large_file_are_left_to_the_fit(folder, monkeypatch):
    from kft import early

    monkeypatch.setattr(early, "MOST_BYTES", 10)
    recipe, rows = early.split_rows("rows.csv", {"label": "topik"})
    early.refuse(recipe, rows)
    with pytest.raises(kft.errors.DataError, match="does not exist"):
        early.refuse(recipe, {"train": "missing.csv"})
