"""A PKCS#11 module: the driver of a token, loaded so that no other thread waits for it, however long it takes.

A driver that hangs must not hold the interpreter's lock, or all of the camera would stand still. python-pkcs11 holds it
while it loads the module (whose constructors run then), in C_GetFunctionList and in C_Finalize, and releases it around
the other calls. Those three are therefore called here through ctypes, which releases it. The system's loader has a lock
of its own, too, for which each import of a compiled package waits; so a module is loaded in a process by itself first,
which has to answer in time. What remains: a module that hangs when it is loaded a second time, and did not the first.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from agent.errors import DeviceKeyError, SignerBusyError

TRIAL_S = 5.0
"""So long a module may take to be loaded, in a process by itself."""
TRY_AGAIN_S = 30.0
"""A module that did not answer in time is tried again as late as this; until then signatures are pending."""
_SLOW_S = 0.5
_TRIAL = """
import ctypes, os, sys
ctypes.CDLL(sys.argv[1]).C_GetFunctionList(ctypes.byref(ctypes.c_void_p()))
os._exit(0)  # a module may hang at its end, too
"""


class _FunctionList(ctypes.Structure):
    """The beginning of CK_FUNCTION_LIST (PKCS#11 v2.40 section 3.6): natural alignment on every POSIX system."""

    _fields_ = (
        ("version", ctypes.c_ubyte * 2),
        ("initialize", ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)),
        ("finalize", ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)),
    )


class Library:
    """A loaded module. `lock`: modules need not bear two threads, and are not told of any here."""

    def __init__(self, path: Path, module: ModuleType) -> None:
        """Raises DeviceKeyError when it is no such module, SignerBusyError when it is too slow now."""
        self.module = module
        self.lock = threading.Lock()
        self.generation = 0
        try:
            functions = ctypes.POINTER(_FunctionList)()
            library = _opened_library(path)
            began_s = time.monotonic()
            library.C_GetFunctionList(ctypes.byref(functions))
            if time.monotonic() - began_s > _SLOW_S:
                raise SignerBusyError(f"The PKCS#11 module {path} is too slow to be asked for its functions now.")
            self.lib = module.lib(str(path))
        except (module.PKCS11Error, OSError, AttributeError) as error:
            raise DeviceKeyError(
                f"The PKCS#11 module {path} cannot be used ({str(error) or type(error).__name__}); set key.module_path "
                "to the module that came with the token's software."
            ) from error
        self._functions = functions.contents
        # Never given back: its destructor calls C_Finalize with the interpreter's lock held, for which a module may
        # wait until a hanging token has answered; a stopping process must not.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.lib))

    def reinitialise(self) -> None:
        """Let the module look anew for its tokens, which many do only when they are initialised. Ends all sessions."""
        self.generation += 1
        # ctypes releases the interpreter's lock. What fails here fails again, and is told, when a session is opened.
        self._functions.finalize(None)
        self._functions.initialize(None)


libraries: dict[Path, Library] = {}
"""Those that were loaded."""
_hung_s: dict[Path, float] = {}
_loading = threading.Lock()


def import_pkcs11() -> ModuleType:
    """The module of python-pkcs11, an extra that a software key does without. Raises DeviceKeyError without it."""
    try:
        import pkcs11
        import pkcs11.util.ec
    except ImportError as error:
        raise DeviceKeyError(
            "A key on a token needs the Python package python-pkcs11, which is not installed; run "
            "`pip install bodycam-agent[pkcs11]`."
        ) from error
    return pkcs11


def load_library(path: Path, module: ModuleType, monotonic_s: Callable[[], float]) -> Library:
    """The module at this path, loaded once in a process. monotonic_s: a clock in seconds that never goes back.

    Raises SignerBusyError when it does not answer now, DeviceKeyError when a person has to look.
    """
    with _loading:
        if path not in libraries:
            since_s = _hung_s.get(path)
            if since_s is not None and monotonic_s() - since_s < TRY_AGAIN_S:
                raise SignerBusyError(f"The PKCS#11 module {path} did not answer; it is tried again in a while.")
            try:
                _try_to_load(path)
                libraries[path] = Library(path, module)
            except SignerBusyError:
                _hung_s[path] = monotonic_s()
                raise
        return libraries[path]


def _try_to_load(path: Path) -> None:
    """In a process by itself. Raises SignerBusyError when it takes too long, DeviceKeyError when the module crashes."""
    try:
        tried = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _TRIAL, str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TRIAL_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SignerBusyError(
            f"The PKCS#11 module {path} was not loaded within {TRIAL_S:.0f} s; check what it waits for, such as its "
            "device or a service of its own. It is tried again in a while."
        ) from error
    except OSError as error:
        raise SignerBusyError(f"No process could be started to try the PKCS#11 module {path}: {error}.") from error
    if tried.returncode < 0:
        raise DeviceKeyError(
            f"The PKCS#11 module {path} crashes when it is loaded (signal {-tried.returncode}); set key.module_path to "
            "the module that came with the token's software."
        )
    # That it is not there, or no module, is found again here, and told.


def _opened_library(path: Path) -> ctypes.CDLL:
    """Loaded with the interpreter's lock released, which CDLL(path) itself does not promise. Raises OSError."""
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.argtypes, dlopen.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    handle = dlopen(os.fsencode(path), os.RTLD_NOW | os.RTLD_LOCAL)
    # Without a handle this fails in the same way, with a reason.
    return ctypes.CDLL(str(path)) if handle is None else ctypes.CDLL(str(path), handle=handle)
