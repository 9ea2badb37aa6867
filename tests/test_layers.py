"""What an import must not bring in. Who may import whom is checked by import-linter, with `make lint`."""

import os
import subprocess
import sys

import pytest

HEAVY = {
    "jax",
    "keras",
    "keras_hub",
    "keras_tuner",
    "matplotlib",
    "sklearn",
    "tensorflow",
    "tensorflow_text",
    "torch",
}
REPORT = "import os, sys; print(*{name.split('.')[0] for name in sys.modules}, 'KERAS_BACKEND' in os.environ)"


@pytest.mark.parametrize("module", ["kft", "kft.errors", "kft.recipe", "kft.cli", "serve.client"])
def test_light_modules_import_no_backend_and_choose_none(module):
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    found = subprocess.run(
        [sys.executable, "-c", f"import {module}; {REPORT}"], env=environment, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    *modules, backend_is_set = found.stdout.split()
    assert HEAVY.isdisjoint(modules)
    assert module.split(".")[0] in modules
    assert backend_is_set == "False"
