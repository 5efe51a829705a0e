"""The handlers of steps.py, in an SDK that loses a step whose callable is `lost`, unless the step's mark is there."""

import os

from steps import note, run, step_handler
from tasker_worker.runner import Worker

run_step = Worker._run


def run_or_lose(worker, number, step, stop):
    mark = step["context"].get("mark")
    if step["handler"]["callable"] == "lost" and not os.path.exists(mark):
        open(mark, "w").close()
    else:
        run_step(worker, number, step, stop)


Worker._run = run_or_lose


@step_handler("lost")
def lost(context):
    note(context)
    return {"attempt": context.retry_count + 1}


if __name__ == "__main__":
    run()
