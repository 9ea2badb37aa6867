"""A module in a process of its own that ends with the process that started it.

`python -m kft.export.child MODULE ARGUMENTS`: standard input is a pipe whose other end the parent holds until the
module is done. When the parent dies, however it does, the system closes that end, and the child is gone at once: even a
parent that was killed leaves nobody at work in its folder.
"""

import os
import runpy
import sys
import threading


def end_with_parent() -> None:
    """Starts a thread that ends this process when standard input is closed."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, name="end-with-parent", daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
