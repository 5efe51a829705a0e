"""Handlers that behave and misbehave, for the runtime's tests. Each does what its callable says."""

import asyncio
import os
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / "python" / "src"))

from tasker_worker import PermanentError, RetryableError, run, step_handler  # noqa: E402


def wait_for(path):
    """Waits until a file is there: how a test says when to go on."""
    while not os.path.exists(path):
        time.sleep(0.005)


def note(context):
    """Leaves a line for each run of a step, so that a test can count them."""
    path = context.get_input("runs")
    if path is not None:
        with open(path, "a") as file:
            file.write(f"{context.step_name} {os.getpid()}\n")


@step_handler("ok")
def ok(context):
    note(context)
    return {"attempt": context.retry_count + 1}


@step_handler("wait")
def wait(context):
    note(context)
    wait_for(context.get_input("gate"))
    return {"waited": True}


@step_handler("large_after")
def large_after(context):
    """Answers with more than a pipe holds, once a file is there."""
    note(context)
    wait_for(context.get_input("gate"))
    with open(context.get_input("done"), "a") as file:
        file.write(context.step_name + "\n")
    return {"text": "x" * context.get_input("bytes")}


@step_handler("count")
def count(context):
    """Needs a time in which it runs, and not only time that passes."""
    note(context)
    for _ in range(context.get_input("naps")):
        time.sleep(0.05)
    return {"counted": True}


def note_in_thread(context):
    """Notes itself, needs some time once it is no longer wanted, and says when it has ended, if it ever does."""
    note(context)
    while context.get_input("hangs") or not context.is_cancelled():
        time.sleep(0.005)
    time.sleep(0.3)
    with open(context.get_input("done"), "a") as file:
        file.write(context.step_name + "\n")


@step_handler("thread")
async def thread(context):
    await asyncio.to_thread(note_in_thread, context)


@step_handler("exit")
def exit_at_once(context):
    note(context)
    print("I exit now", file=sys.stderr)
    os._exit(3)


@step_handler("exit_after")
def exit_after(context):
    note(context)
    wait_for(context.get_input("gate"))
    os._exit(3)


@step_handler("exit_on_first_run")
def exit_on_first_run(context):
    runs = context.get_input("runs")
    first = not os.path.exists(runs)
    note(context)
    if first:
        os._exit(3)
    return {"survived": True}


@step_handler("kill")
def kill(context):
    note(context)
    os.kill(os.getpid(), signal.SIGKILL)


@step_handler("hang")
def hang(context):
    note(context)
    time.sleep(3600)


@step_handler("flood")
def flood():
    """100 MB on each stream, half of it without line ends."""
    line = "x" * 99 + "\n"
    for stream in (sys.stdout, sys.stderr):
        for _ in range(500):
            stream.write(line * 1000)
        for _ in range(50):
            stream.write("y" * 1_000_000)
    return {"flooded": True}


@step_handler("large")
def large(context):
    return {"text": "x" * context.get_input("bytes")}


@step_handler("garbage")
def garbage(context):
    note(context)
    os.write(4, b"this is not of the protocol\n")
    time.sleep(3600)


@step_handler("unknown_number")
def unknown_number(context):
    note(context)
    os.write(4, b'{"id":999999,"outcome":{"success":{"result":1}}}\n')
    time.sleep(3600)


@step_handler("held_of_unknown_number")
def held_of_unknown_number(context):
    note(context)
    os.write(4, b'{"id":999999,"held":false}\n')
    time.sleep(3600)


@step_handler("endless_line")
def endless_line(context):
    note(context)
    while True:
        os.write(4, b"x" * 65536)


@step_handler("close_pipes")
def close_pipes(context):
    note(context)
    os.close(4)
    time.sleep(3600)


@step_handler("grandchild")
def grandchild(context):
    """Starts a process that would live on, and says which."""
    import subprocess

    child = subprocess.Popen(["sleep", "3600"])
    with open(context.get_input("pid_file"), "w") as file:
        file.write(str(child.pid))
    os._exit(3)


@step_handler("beat")
def beat(context):
    for _ in range(100):
        context.heartbeat()
    return {"beaten": True}


@step_handler("beat_for_ever")
def beat_for_ever(context):
    while True:
        context.heartbeat()
        time.sleep(0.01)


@step_handler("descriptors")
def descriptors():
    return {"open": sorted(int(number) for number in os.listdir("/proc/self/fd"))}


@step_handler("environment")
def environment(context):
    return {name: os.environ.get(name) for name in context.get_input("names")}


@step_handler("fail")
def fail(context):
    if context.get_input("permanent"):
        raise PermanentError("never")
    raise RetryableError("later", retry_after=2)


@step_handler("fail_at_length")
def fail_at_length(context):
    long = "é" * context.get_input("characters")
    raise PermanentError(long, error_code="long", context={"first": long, "second": [long]})


if __name__ == "__main__":
    run()
