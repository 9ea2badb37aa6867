"""A module in a process of its own that ends with the process that started it.

`python -m kft.export.child MODULE ARGUMENTS`: standard input is a pipe whose other end the parent holds until the
module is done. When the parent dies, however it does, the system closes that end, and the child ends too: even a parent
that was killed leaves nobody at work in its folder.
"""

import ctypes
import os
import runpy
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Starts a thread that ends this process when standard input is closed."""
    if sys.platform == "linux":
        # The thread cannot run while a library is loaded, which takes TensorFlow seconds; the kernel can.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, name="end-with-parent", daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
