"""CPU seconds of `import kft`, less those of an empty Python, and of all that a fit loads; medians of fresh processes.

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
    plain, own = (
        statistics.median(cpu_s(f"{setup}import kft.workflow") for _ in range(5))
        for setup in ("", "from kft import cli; cli.own_process(); ")
    )
    print(f"python {empty:.3f} s, with import kft {whole:.3f} s: kft costs {whole - empty:.3f} s of CPU")
    print(f"all that a fit loads {plain:.2f} s; with the garbage collector as the command line sets it {own:.2f} s")


if __name__ == "__main__":
    main()
