"""Handlers that need a well-behaved process above them, for the runtime's tests. Each does what its callable says."""

import os
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / "python" / "src"))

from tasker_worker import run, step_handler  # noqa: E402


@step_handler("ok")
def ok():
    return {"pid": os.getpid()}


@step_handler("chatter")
def chatter(context):
    for _ in range(context.get_input("lines")):
        print("x" * 8000)
    return {"pid": os.getpid()}


@step_handler("large")
def large(context):
    return {"text": "x" * context.get_input("bytes")}


@step_handler("orphans")
def orphans(context):
    """Starts processes whose parents end before them, and waits until all of these parents have ended."""
    for _ in range(context.get_input("count")):
        parent = os.fork()
        if parent == 0:
            if os.fork() == 0:
                # Until the parent has ended.
                while os.getppid() == parent:
                    pass
            os._exit(0)
        os.waitpid(parent, 0)
    return {"pid": os.getpid()}


@step_handler("zombies")
def zombies():
    """The processes that have ended and that nobody has waited for."""
    states = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                states.append((entry / "stat").read_text().rpartition(") ")[2][0])
        except OSError:
            # It has ended completely.
            continue
    return {"zombies": states.count("Z"), "processes": len(states)}


@step_handler("kill")
def kill():
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    run()
