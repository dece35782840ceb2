"""How the process of `bodycam run` ends."""

from __future__ import annotations

import subprocess
import sys

# The thread is in Rust, which called Python back, and never comes out: the worst there is when an interpreter ends.
PROGRAM = """
import threading, time
import pyrage
import agent.daemon.run
from agent.cli.main import main
inside = threading.Event()
class Endless:
    def read(self, size=-1):
        while True:
            inside.set()
            time.sleep(0.001)
class Nowhere:
    def write(self, data):
        return len(data)
    def flush(self):
        pass
recipient = pyrage.x25519.Identity.generate().to_public()
def run_daemon(settings):
    threading.Thread(target=pyrage.encrypt_io, args=(Endless(), Nowhere(), [recipient]), daemon=True).start()
    inside.wait()
    agent.daemon.run.log("ending")
    return 7
agent.daemon.run.run_daemon = run_daemon
main(["run"])
"""


def test_a_thread_that_never_comes_back_changes_nothing_of_how_it_ends() -> None:
    for _ in range(3):  # by chance such a thread may be asleep when the interpreter ends
        done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
        assert done.returncode == 7, done.stderr
        assert " info ending\n" in done.stderr
