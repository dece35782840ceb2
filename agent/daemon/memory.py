"""Keep resident memory near what is used: settings of the allocator and the kernel that a 512 MB device needs.

Each was measured on the daemon at 1080p with libx264; see docs/benchmarks.md.
"""

from __future__ import annotations

import ctypes
import resource

_M_TRIM_THRESHOLD = -1  # <malloc.h>
_M_MMAP_THRESHOLD = -3
_PR_SET_THP_DISABLE = 41  # <linux/prctl.h>
_THRESHOLD_BYTES = 128 * 1024


def bound_memory() -> None:
    """Call before anything large is allocated. What the C library does not know is left as it is."""
    # The buffer holds what nobody may read who has not been allowed to: no core file ever takes it to disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        # glibc raises these on its own with each large block that is freed, and then keeps what a batch has used.
        libc.mallopt(_M_MMAP_THRESHOLD, _THRESHOLD_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _THRESHOLD_BYTES)
    # x264 asks for huge pages for its frames: half-used ones count in full.
    libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
