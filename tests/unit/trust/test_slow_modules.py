"""PKCS#11 modules that hang before they are asked anything: the camera's other threads go on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.errors import DeviceKeyError, SignerBusyError
from agent.trust import token_library
from agent.trust.token import Token, TokenAddress
from agent.trust.token_library import TRY_AGAIN_S
from tests.unit.trust.identities import new_key

GCC = shutil.which("gcc")

MODULE = r"""
#include <stdlib.h>
#include <string.h>
#include <time.h>
static void nap(const char *where) {
    const char *hang = getenv("HANG");
    struct timespec rest = {2, 0};
    if (hang && !strcmp(hang, where)) nanosleep(&rest, NULL);
    if (hang && !strcmp(hang, "crash") && !strcmp(where, "load")) abort();
}
__attribute__((constructor)) static void loaded(void) { nap("load"); }
static unsigned long ok(void *unused) { return 0; }
static unsigned long finalize(void *unused) { nap("finalize"); return 0; }
static unsigned long info(void *p) { memset(p, 0, 88); return 0; }
static unsigned long slots(unsigned char present, void *list, unsigned long *count) { *count = 0; return 0; }
static unsigned long no(void) { return 0x54; }
static struct { unsigned char version[2]; void *functions[68]; } all;
unsigned long C_GetFunctionList(void **p) {
    nap("list");
    all.version[0] = 2; all.version[1] = 40;
    for (int i = 0; i < 68; i++) all.functions[i] = no;
    all.functions[0] = ok; all.functions[1] = finalize; all.functions[2] = info;
    all.functions[3] = C_GetFunctionList; all.functions[4] = slots;
    *p = &all;
    return 0;
}
"""

# Another thread counts how long it ever stood still, while one signs; both in a process where nothing was loaded yet.
PROGRAM = """
import sys, threading, time
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric import ec
from agent.errors import BodycamError
from agent.trust import token_library
from agent.trust.token import Token, TokenAddress
from agent.trust.token_library import import_pkcs11
import_pkcs11()
if sys.argv[2] == "untried":
    token_library._try_to_load = lambda path: None
still_s, stop = 0.0, threading.Event()
def turn():
    global still_s
    last_s = time.monotonic()
    while not stop.wait(0.005):
        now_s = time.monotonic()
        still_s, last_s = max(still_s, now_s - last_s), now_s
other = threading.Thread(target=turn)
key = ec.generate_private_key(ec.SECP256R1()).public_key()
token = Token(TokenAddress(Path(sys.argv[1]), "token", "label", Path("pin")))
other.start()
try:
    token.sign_digest(key, bytes(32))
except BodycamError as error:
    said = f"{type(error).__name__}: {error}"
stop.set()
other.join()
print(still_s)
print(said)
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if GCC is None:
        pytest.skip("There is no gcc to build a PKCS#11 module with.")
    folder = tmp_path_factory.mktemp("module")
    (folder / "module.c").write_text(MODULE)
    made = folder / "module.so"
    subprocess.run([GCC, "-shared", "-fPIC", "-w", "-o", str(made), str(folder / "module.c")], check=True)
    return made


@pytest.mark.parametrize(
    ("where", "trial", "said"),
    [
        ("", "tried", "The token"),
        ("load", "tried", "The token"),
        ("load", "untried", "The token"),
        ("list", "untried", "The PKCS#11 module"),
        ("finalize", "untried", "The token"),
    ],
)
def test_no_other_thread_waits_for_a_module(module: Path, where: str, trial: str, said: str) -> None:
    """untried: also of what comes behind the trial, as when the module hangs only now and then."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(module), trial],
        env={"HANG": where, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    still_s, sentence = ran.stdout.splitlines()
    assert float(still_s) < 1.0  # the module hangs for 2 s
    assert sentence.startswith(f"SignerBusyError: {said}")


def test_a_module_that_hangs_is_left_alone_for_a_while(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path(shutil.copy(module, tmp_path / "own.so"))
    now_s = [1000.0]
    token = Token(TokenAddress(own, "token", "label", tmp_path / "pin"), lambda: now_s[0])
    monkeypatch.setattr(token_library, "TRIAL_S", 0.5)
    monkeypatch.setenv("HANG", "load")
    key = new_key().public_key()
    with pytest.raises(SignerBusyError, match=r"was not loaded within .*; check what it waits for"):
        token.sign_digest(key, bytes(32))
    assert own not in token_library.libraries
    monkeypatch.setenv("HANG", "")
    monkeypatch.setattr(token_library, "TRIAL_S", 30.0)
    now_s[0] += TRY_AGAIN_S - 1
    with pytest.raises(SignerBusyError, match="tried again in a while"):
        token.sign_digest(key, bytes(32))
    now_s[0] += 1
    with pytest.raises(SignerBusyError, match="no token labelled"):
        token.sign_digest(key, bytes(32))
    assert own in token_library.libraries


def test_a_module_that_crashes_takes_only_its_trial_along(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path(shutil.copy(module, tmp_path / "crash.so"))
    monkeypatch.setenv("HANG", "crash")
    token = Token(TokenAddress(own, "token", "label", tmp_path / "pin"))
    with pytest.raises(DeviceKeyError, match="crashes when it is loaded"):
        token.sign_digest(new_key().public_key(), bytes(32))
