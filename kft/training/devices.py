"""Devices and precision: where a fit computes, with tf.distribute on TensorFlow and keras.distribution on JAX."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from kft.errors import DeviceError, OutOfMemory

CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Devices:
    """What a fit computes on.

    Attributes:
        backend: The Keras backend: tensorflow, jax or torch.
        platform: cpu, gpu or tpu.
        kind: none, mirrored, data_parallel or tpu.
        count: Devices that share each batch.
        precision: The dtype policy of the model in training.
        strategy: The tf.distribute strategy, the keras.distribution, or None.
    """

    backend: str
    platform: str
    kind: str
    count: int
    precision: str
    strategy: Any = None

    @property
    def is_compiled(self) -> bool:
        """Whether XLA makes one program for each batch shape, so that shapes should be few."""
        return self.backend == "jax" or self.platform == "tpu" or self.jit_compile

    @property
    def jit_compile(self) -> bool:
        """What `model.compile` is told. XLA loses on CPUs, and hangs in mirrored mixed precision on several GPUs."""
        return self.backend == "jax" or (self.backend == "tensorflow" and self.platform == "gpu" and self.count == 1)

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Where the model must be built, compiled and trained."""
        if self.strategy is None:
            yield
        elif self.backend == "tensorflow":
            with self.strategy.scope():
                yield
        else:
            before = keras.distribution.distribution()
            keras.distribution.set_distribution(self.strategy)
            try:
                yield
            finally:
                keras.distribution.set_distribution(before)

    def __str__(self) -> str:
        many = "" if self.count == 1 else f"{self.count} x "
        how = "" if self.kind == "none" else f", {self.kind}"
        return f"{many}{self.platform} ({self.backend}{how}), {self.precision}"


def choose(distribute: str, precision: str) -> Devices:
    """The devices that the recipe's `distribute` and `precision` mean on this machine and backend.

    Raises:
        DeviceError: The backend has no such distribution, or the machine too few devices.
    """
    backend = keras.config.backend()
    kind, _, asked = distribute.partition(":")
    if kind == "mirrored" and backend != "tensorflow":
        raise DeviceError(f"distribute='mirrored' is TensorFlow's, the backend is {backend}. Use data_parallel on jax.")
    if kind == "data_parallel" and backend != "jax":
        raise DeviceError(f"distribute='data_parallel' is JAX's, the backend is {backend}. Use mirrored on tensorflow.")
    if kind == "tpu" and backend == "torch":
        raise DeviceError("distribute='tpu' needs the tensorflow or jax backend; the backend is torch.")
    wanted = int(asked) if asked else None
    found = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[backend](kind, wanted)
    if precision == "mixed_float16" and found[2] > 1:
        raise DeviceError(
            "precision='mixed_float16' over several devices is not supported: each would scale its loss by itself. "
            "Use mixed_bfloat16, or distribute=none."
        )
    return Devices(backend, *found[:3], _precision(precision, backend, found[0]), found[3])


def _tensorflow(kind: str, wanted: int | None) -> tuple[str, str, int, Any]:
    import tensorflow as tf

    if kind == "tpu":
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
        except (ValueError, tf.errors.OpError) as error:
            raise DeviceError(f"distribute='tpu': no TPU answers here ({error}). Use auto or none.") from None
        strategy = tf.distribute.TPUStrategy(resolver)
        return "tpu", "tpu", strategy.num_replicas_in_sync, strategy
    gpus = tf.config.list_logical_devices("GPU") if tf.config.list_physical_devices("GPU") else []
    platform = "gpu" if gpus else "cpu"
    if kind == "none" or (kind == "auto" and len(gpus) < 2):
        return platform, "none", 1, None
    devices = gpus or _logical_cpus(tf, wanted)
    _enough(devices, wanted, platform)
    names = [device.name for device in devices[:wanted]]
    return platform, "mirrored", len(names), _mirrored(tuple(names))


@functools.cache
def _mirrored(names: tuple[str, ...]) -> Any:
    """One strategy for the same devices: the collectives of two in one process get each other's tensors."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(list(names))


def _logical_cpus(tf: Any, wanted: int | None) -> list[Any]:
    """The CPU as `wanted` logical devices, which can be made only before TensorFlow starts."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    if wanted and not tf.config.get_logical_device_configuration(cpu):
        with contextlib.suppress(RuntimeError):  # already started: the count below then says so
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * wanted)
    return tf.config.list_logical_devices("CPU")


def _jax(kind: str, wanted: int | None) -> tuple[str, str, int, Any]:
    import jax

    if kind == "data_parallel" and wanted:
        with contextlib.suppress(RuntimeError):  # already started: the count below then says so
            jax.config.update("jax_num_cpu_devices", wanted)
    devices = jax.devices()
    platform = devices[0].platform
    if kind == "tpu" and platform != "tpu":
        raise DeviceError(f"distribute='tpu': JAX sees {platform}, no TPU. Use auto or none.")
    if kind == "none" or (kind == "auto" and (len(devices) < 2 or platform == "cpu")):
        return platform, "none", 1, None
    _enough(devices, wanted, platform)
    chosen = devices[: wanted or len(devices)]
    names = [f"{device.platform}:{device.id}" for device in chosen]
    return (
        platform,
        "data_parallel",
        len(chosen),
        keras.distribution.DataParallel(devices=names, auto_shard_dataset=False),
    )


def _torch(kind: str, wanted: int | None) -> tuple[str, str, int, Any]:
    import torch

    return ("gpu" if torch.cuda.is_available() else "cpu"), "none", 1, None


def _enough(devices: list[Any], wanted: int | None, platform: str) -> None:
    if wanted and len(devices) < wanted:
        raise DeviceError(
            f"distribute asks for {wanted} devices; this process sees {len(devices)} {platform}. Ask for fewer, or ask "
            "before anything has started TensorFlow or JAX in this process."
        )


def _precision(asked: str, backend: str, platform: str) -> str:
    """bfloat16 where it is in the hardware and the backend's kernels gain by it; otherwise float32."""
    if asked != "auto":
        return asked
    if platform == "tpu":
        return "mixed_bfloat16"
    if platform == "cpu":
        return "mixed_bfloat16" if _cpu_has_bfloat16() and backend != "jax" else "float32"
    return "mixed_bfloat16" if _gpu_has_bfloat16(backend) else "float32"


def _cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies matrices of bfloat16: Intel's AMX, or AVX-512 of Intel and AMD."""
    words = CPUINFO.read_text(encoding="utf-8").split() if CPUINFO.is_file() else []
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(words)


def _gpu_has_bfloat16(backend: str) -> bool:
    """Whether the first GPU is of compute capability 8 (Ampere) or newer."""
    if backend == "torch":
        import torch

        return torch.cuda.get_device_capability()[0] >= 8
    if backend == "jax":
        import jax

        return float(getattr(jax.devices()[0], "compute_capability", 0) or 0) >= 8
    import tensorflow as tf

    details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
    return details.get("compute_capability", (0, 0))[0] >= 8


@contextlib.contextmanager
def memory_errors(say: Callable[[], str]) -> Iterator[None]:
    """Turns a backend's way to say that the device has no memory left into `OutOfMemory` with the message of `say`."""
    try:
        yield
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        raise OutOfMemory(say()) from error


def _is_out_of_memory(error: Exception) -> bool:
    kind, message = type(error).__name__, str(error)
    if kind in ("XlaRuntimeError", "JaxRuntimeError"):
        return "RESOURCE_EXHAUSTED" in message
    # TensorFlow has one name for a full memory and a full disk.
    is_disk = "No space left on device" in message or "quota" in message
    return kind in ("ResourceExhaustedError", "OutOfMemoryError", "MemoryError") and not is_disk


@contextlib.contextmanager
def deterministic(is_asked: bool) -> Iterator[None]:
    """Where asked for, every operation of the backend gives the same bits from run to run in here.

    JAX's do so always. Afterwards operations are chosen as before.
    """
    backend = keras.config.backend()
    if is_asked and backend == "tensorflow":
        # TensorFlow's public API turns it on, but not off.
        from tensorflow.python.framework import config

        was_on = config.is_op_determinism_enabled()
        config.enable_op_determinism()
        try:
            yield
        finally:
            if not was_on:
                config.disable_op_determinism()
    elif is_asked and backend == "torch":
        import torch

        was_on = torch.are_deterministic_algorithms_enabled()
        only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(was_on, warn_only=only_warns)
    else:
        yield
