import dataclasses

import pytest
import tensorflow as tf

from kft.errors import DeviceError
from kft.training import devices
from kft.training.devices import Devices


def test_one_cpu_computes_without_a_strategy():
    tf.constant(0)
    chosen = devices.choose("none", "float32")
    assert chosen == Devices("tensorflow", "cpu", "none", 1, "float32")
    assert str(chosen) == "cpu (tensorflow), float32"
    assert not chosen.is_compiled
    assert devices.choose("auto", "float32") == chosen
    with chosen.scope():
        assert not tf.distribute.has_strategy()


def test_precision_is_what_was_asked_for():
    assert devices.choose("none", "mixed_bfloat16").precision == "mixed_bfloat16"


@pytest.mark.parametrize(
    ("flags", "precision"),
    [("avx2 amx_bf16", "mixed_bfloat16"), ("avx512_bf16", "mixed_bfloat16"), ("avx512f", "float32"), (None, "float32")],
)
def test_a_cpu_trains_in_bfloat16_where_it_multiplies_in_it(flags, precision, tmp_path, monkeypatch):
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu {flags} sse\n", encoding="utf-8")
    monkeypatch.setattr(devices, "CPUINFO", tmp_path / "cpuinfo")
    assert devices.choose("none", "auto").precision == precision


def test_more_devices_than_this_process_sees_are_refused():
    tf.constant(0)  # TensorFlow has started: its CPU cannot be split any more
    with pytest.raises(DeviceError, match=r"distribute asks for 64 devices; this process sees \d+ cpu"):
        devices.choose("mirrored:64", "float32")


def test_xla_compiles_on_jax_on_tpus_and_on_a_single_gpu():
    cpu = Devices("tensorflow", "cpu", "none", 1, "float32")
    gpu = dataclasses.replace(cpu, platform="gpu")
    assert gpu.jit_compile and gpu.is_compiled
    assert not dataclasses.replace(gpu, kind="mirrored", count=2).jit_compile
    assert dataclasses.replace(cpu, backend="jax").jit_compile
    tpu = dataclasses.replace(cpu, platform="tpu", kind="tpu", count=8)
    assert tpu.is_compiled and not tpu.jit_compile


@pytest.mark.parametrize("is_asked", [True, False])
def test_operations_are_deterministic_for_as_long_as_asked(is_asked):
    from tensorflow.python.framework import config

    with devices.deterministic(is_asked):
        assert config.is_op_determinism_enabled() == is_asked
    assert not config.is_op_determinism_enabled()
    with devices.deterministic(True), pytest.raises(ZeroDivisionError), devices.deterministic(is_asked):
        raise ZeroDivisionError
    config.enable_op_determinism()
    try:
        with devices.deterministic(True):
            pass
        assert config.is_op_determinism_enabled()  # the caller's own choice stays
    finally:
        config.disable_op_determinism()
