"""Start one command and make sure that it ends: `python keeper.py OPTIONS -- COMMAND...`.

The command runs in a session of its own. It is ended, with all of its process group, when the keeper is told
to (SIGTERM, SIGINT), when its time is up, or when one of the pipes reaches its end: the other ends are held
by the processes that this one must not outlive, and the kernel closes them even after a kill -9.
Nothing but the standard library is imported, so that a keeper costs little.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time

GRACE = 5.0


def main() -> int:
    """Run the command to its end and return its exit code."""
    import fcntl  # not on Windows

    parser = argparse.ArgumentParser()
    parser.add_argument("--pipes", default="", help="file descriptors, comma-separated")
    parser.add_argument("--exit-file", help="where to write how it ended")
    parser.add_argument("--lock", help="a file that is locked, and names this process, while the command runs")
    parser.add_argument("--log", help="where stdout and stderr go")
    parser.add_argument("--deadline", type=float, help="seconds")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    pipes = [int(fd) for fd in options.pipes.split(",") if fd]

    # The wakeup descriptor is written to at once. A handler is run by the interpreter, and so not while the main thread
    # waits for the child, if the signal came just before it began to.
    told_read, told_write = os.pipe()
    os.set_blocking(told_write, False)
    signal.set_wakeup_fd(told_write, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)

    lock = open(options.lock, "w") if options.lock else None  # noqa: SIM115 - it is held until the end
    if lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(str(os.getpid()))
        lock.flush()
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(open(options.log, "ab", buffering=0)) if options.log else None
        try:
            child = subprocess.Popen(
                options.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                start_new_session=True,
            )
        except OSError as error:
            if output:
                output.write(f"{error}\n".encode())
            leave(options.exit_file, 127, "exited")
            return 127
    reason = ["exited"]

    def watch() -> None:
        ended, _, _ = select.select([*pipes, told_read], [], [], options.deadline)
        if child.poll() is not None:
            return
        reason[0] = "deadline" if not ended else "owner-gone" if set(pipes) & set(ended) else "terminated"
        signal_group(child.pid, signal.SIGTERM)
        try:
            child.wait(GRACE)
        except subprocess.TimeoutExpired:
            signal_group(child.pid, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    code = child.wait()
    # What the command has left in its group ends with it.
    signal_group(child.pid, signal.SIGKILL)
    leave(options.exit_file, code, reason[0])
    return code if code >= 0 else 128 - code


def leave(path: str | None, code: int, reason: str) -> None:
    """Write how it ended; the file is complete or absent."""
    if path:
        partial = f"{path}.{os.getpid()}"
        with open(partial, "w") as file:
            json.dump({"code": code, "reason": reason, "ended": time.time()}, file)
        os.replace(partial, path)


def signal_group(pid: int, number: int) -> None:
    """Send a signal to a process group that may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


if __name__ == "__main__":
    sys.exit(main())
