"""Speaks the protocol without an SDK. Each step runs in a thread, and does what its callable says.

Says whether it has a step if its argument is ``says_held``, and otherwise ignores that line, as older SDKs do.
"""

import fcntl
import json
import os
import sys
import threading
import time

write_lock = threading.Lock()
#: By the number of a step: the step, the thread that runs it, and whether it is to stop and was asked about.
steps, threads, stops, asked = {}, {}, {}, {}
#: The numbers of the steps that it has.
held = set()


def write(message):
    with write_lock:
        os.write(4, (json.dumps(message, separators=(",", ":")) + "\n").encode())


def note(step, name):
    path = step["context"].get(name)
    if path is not None:
        with open(path, "a") as file:
            file.write(f"{step['step_name']} {os.getpid()}\n")


def ok(_id, _step, _stop):
    return {}


def hang(_id, _step, _stop):
    """Does not listen."""
    time.sleep(3600)


def beat(number, _step, stop):
    """Beats every second for a minute, and listens, as an async handler does."""
    for _ in range(60):
        write({"id": number, "heartbeat": {}})
        if stop.wait(1):
            return {"stopped": True}
    return {"beaten": True}


def count(_id, step, _stop):
    for _ in range(step["context"]["naps"]):
        time.sleep(0.05)
    return {"counted": True}


def die(_id, _step, _stop):
    os._exit(3)


def die_after(_id, step, _stop):
    while not os.path.exists(step["context"]["gate"]):
        time.sleep(0.005)
    os._exit(3)


def wait_for(_id, step, _stop):
    while not os.path.exists(step["context"]["gate"]):
        time.sleep(0.005)
    return {"waited": True}


def hold(_id, step, _stop):
    """Holds a lock for as long as its process lives."""
    file = open(step["context"]["lock"], "a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return {"overlaps": True}
    note(step, "held")
    time.sleep(3600)


def swallow(_number, _step, _stop):
    """Ends without an answer, as a step does that an SDK loses."""


def deny(number, _step, stop):
    """Says that it does not have the step, but only once it was told to stop it."""
    stop.wait()
    held.discard(number)
    write({"id": number, "held": False})


def each_run(number, step, stop):
    """Does in each run what the context says for it."""
    with open(step["context"]["runs"]) as file:
        run = sum(line.split()[0] == step["step_name"] for line in file)
    return globals()[step["context"]["each"][run - 1]](number, step, stop)


def until_asked(number, _step, _stop):
    """Answers when the runtime asks about the step, and before that question is answered."""
    asked[number].wait()
    return {}


def long(_number, step, _stop):
    """Answers when the runtime has asked about it three times."""
    while not os.path.exists(step["context"]["asked"]) or len(open(step["context"]["asked"]).readlines()) < 3:
        time.sleep(0.005)
    return {"attempt": step["attempt"]}


def answer(number, step):
    note(step, "runs")
    result = globals()[step["handler"]["callable"]](number, step, stops[number])
    if result is not None:
        write({"id": number, "outcome": {"success": {"result": result}}})
    held.discard(number)


def say_held(number):
    note(steps[number], "asked")
    asked[number].set()
    if steps[number]["handler"]["callable"] == "until_asked":
        threads[number].join()
    if "says_held" in sys.argv:
        write({"id": number, "held": number in held})


write({"ready": {"protocol": 1, "sdk": "plain", "version": "0", "handlers": []}})
for text in os.fdopen(3):
    message = json.loads(text)
    number = message["id"]
    if "stop" in message:
        stops[number].set()
    elif "held" in message:
        say_held(number)
    else:
        steps[number], stops[number], asked[number] = message["step"], threading.Event(), threading.Event()
        threads[number] = threading.Thread(target=answer, args=(number, message["step"]), daemon=True)
        held.add(number)
        threads[number].start()
os._exit(0)
