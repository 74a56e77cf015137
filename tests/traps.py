"""Pictures that harm the process which decodes them: the words in their bytes say how."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from align.preprocess import Image


class Trap(Image):
    """Images, and five texts that are none."""

    def decode(self, source: Any):
        if source == b"hang":
            time.sleep(600)
        while source == b"burn":
            pass
        if isinstance(source, bytes) and source.startswith(b"wait"):
            time.sleep(1.5)
            source = source[4:]
        if source == b"crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if source == b"memory":
            bytearray(3 << 30)
        return super().decode(source)
