"""Threads that are the first to need a class may do so at once, as those of a conductor that finds messages waiting."""

import subprocess
import sys

_AT_ONCE = """
import os, sys, threading
import msgspec
from minova.objects import WIRE_TYPES

sys.setswitchinterval(1e-6)

def read(start):
    start.wait()
    for wire_type in WIRE_TYPES:
        try:
            msgspec.convert({}, wire_type)
        except msgspec.ValidationError:
            pass

for _ in range(150):
    pid = os.fork()
    if pid == 0:
        start = threading.Barrier(6)
        threads = [threading.Thread(target=read, args=(start,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        sys.exit(f"it ended with {status}")
"""


def test_threads_that_read_their_first_objects_at_once_do_not_crash() -> None:
    """Each of 150 processes would crash with a probability of 4 %, and so at least one for sure."""
    done = subprocess.run([sys.executable, "-c", _AT_ONCE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
