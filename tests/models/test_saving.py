import shutil
import subprocess

import h5py
import numpy as np
import pytest

from kft.errors import RunError, TrainingError
from kft.models import heads, presets, saving


@pytest.fixture
def model(tiny_preset):
    return heads.sequence_model(presets.find(tiny_preset), 3, 24, "float32", seed=0)


def contents(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()] if isinstance(item, h5py.Dataset) else None}))
    return found


def test_a_saved_model_holds_what_keras_hub_would_write(model, tmp_path):
    model.save_to_preset(str(tmp_path / "theirs"))
    saving.save_task(model, tmp_path / "ours")
    theirs, ours = (sorted(p.relative_to(f) for p in f.rglob("*")) for f in (tmp_path / "theirs", tmp_path / "ours"))
    assert theirs == ours
    for name in ("model.weights.h5", "task.weights.h5"):
        left, right = contents(tmp_path / "theirs" / name), contents(tmp_path / "ours" / name)
        assert left.keys() == right.keys()
        assert all(np.array_equal(left[key], right[key]) for key in left if left[key] is not None)
    assert heads.open_task(str(tmp_path / "ours")).count_params() == model.count_params()


def test_weights_in_several_files_are_read_back(model, tmp_path):
    size = 8_000 / 2**30  # GiB, as Keras counts
    with saving._held_files():
        model.backbone.save_to_preset(str(tmp_path), max_shard_size=size)
    assert len(list(tmp_path.glob("model_*.weights.h5"))) > 1
    again = presets.find(str(tmp_path)).backbone_class.from_preset(str(tmp_path))
    assert all(np.array_equal(a, b) for a, b in zip(model.backbone.get_weights(), again.get_weights(), strict=True))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_not_saved(model, number, tmp_path):
    kernel = model.get_layer("logits").kernel
    kernel.assign(np.full(kernel.shape, number))
    with pytest.raises(TrainingError, match=r"logits/kernel holds numbers that are infinite or NaN"):
        saving.save_task(model, tmp_path / "preset")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_at_any_moment_is_one_line_and_what_was_there_stays(model, tmp_path, monkeypatch):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        saving.save_task(model, tmp_path / "preset")
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        needed, filler = sum(-(-len(content) // 4096) * 4096 for content in before.values()), tmp_path / "filler"
        with monkeypatch.context() as patch:
            patch.setattr(saving.writable, "require_space", lambda *arguments: None)
            for room in range(4096, needed, 8 * 4096):
                filler.write_bytes(bytes(shutil.disk_usage(tmp_path).free - room))
                with pytest.raises(RunError, match=r"No space left on device\. What was") as no:
                    saving.save_task(model, tmp_path / "preset")
                filler.unlink()
                assert "\n" not in str(no.value)
                assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        filler.write_bytes(bytes(shutil.disk_usage(tmp_path).free - 4096))
        with pytest.raises(RunError, match="MB of disk are free"):
            saving.save_task(model, tmp_path / "preset")
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)
