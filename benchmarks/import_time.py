"""CPU seconds of `import kft`, the median of five fresh processes, less those of an empty Python.

.venv/bin/python benchmarks/import_time.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys


def cpu_s(code: str) -> float:
    """User and system seconds of a Python that runs `code`."""
    before = os.times()
    subprocess.run([sys.executable, "-c", code], check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    """Prints both medians and their difference."""
    empty, whole = (statistics.median(cpu_s(code) for _ in range(5)) for code in ("pass", "import kft"))
    print(f"python {empty:.3f} s, with import kft {whole:.3f} s: kft costs {whole - empty:.3f} s of CPU")


if __name__ == "__main__":
    main()
