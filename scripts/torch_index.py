"""Print the pip options that install torch without CUDA: PyTorch's own CPU index when it answers within three seconds.

Otherwise print nothing, and pip's configured index is used. Standard library only: it runs before anything is installed.
"""

import os
import threading
import urllib.request

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PATIENCE_SECONDS = 3.0


def answers() -> bool:
    """Whether the index answers in time. In a thread, because a name look-up has no time limit of its own."""
    found = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(f"{CPU_INDEX}/torch/", timeout=PATIENCE_SECONDS) as response:  # noqa: S310 (a constant https address)
                if response.status == 200:
                    found.set()
        except OSError:
            pass

    threading.Thread(target=ask, daemon=True).start()
    return found.wait(PATIENCE_SECONDS)


if __name__ == "__main__":
    print(f"--index-url {CPU_INDEX}" if answers() else "", flush=True)
    os._exit(0)  # a look-up that still hangs must not hold the exit up
