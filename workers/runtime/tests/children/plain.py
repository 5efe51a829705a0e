"""Speaks the protocol without an SDK. Each step runs in a thread, and does what its callable says."""

import fcntl
import json
import os
import threading
import time

write_lock = threading.Lock()
stops = {}


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


def hold(_id, step, _stop):
    """Holds a lock for as long as its process lives."""
    file = open(step["context"]["lock"], "a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return {"overlaps": True}
    note(step, "held")
    time.sleep(3600)


def answer(number, step):
    note(step, "runs")
    result = globals()[step["handler"]["callable"]](number, step, stops[number])
    write({"id": number, "outcome": {"success": {"result": result}}})


write({"ready": {"protocol": 1, "sdk": "plain", "version": "0", "handlers": []}})
for text in os.fdopen(3):
    message = json.loads(text)
    number = message["id"]
    if "stop" in message:
        stops[number].set()
    else:
        stops[number] = threading.Event()
        threading.Thread(target=answer, args=(number, message["step"]), daemon=True).start()
os._exit(0)
