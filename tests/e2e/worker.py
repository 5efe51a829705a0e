"""A worker for the end-to-end tests: its handlers wait for files, so that a test decides when a step goes on."""

import os
import threading
import time

from tasker_worker import BatchConfig, PermanentError, RetryableError, StepContext, batch_analyzer, run, step_handler


def wait_for(path: str) -> None:
    """Returns once the file is there."""
    while not os.path.exists(path):
        threading.Event().wait(0.01)


@step_handler("noop")
def noop() -> dict:
    """Does nothing."""
    return {}


@step_handler("gate")
def gate(context: StepContext) -> dict:
    """Leaves a mark that it started, fails as often as the context says, then waits for its gate to open."""
    folder = context.get_input("folder")
    if context.retry_count < (context.get_input("failures") or 0):
        raise RetryableError("not yet")
    with open(os.path.join(folder, f"started-{context.step_uuid}"), "a", encoding="utf-8") as mark:
        mark.write(f"{os.getpid()}\n")
    wait_for(os.path.join(folder, "open"))
    return {"attempt": context.retry_count + 1}


@step_handler("brief")
def brief(context: StepContext) -> dict:
    """Works for a moment, and fails as often as the context says. Notes when it began, if given a folder."""
    folder = context.get_input("folder")
    if folder:
        with open(os.path.join(folder, f"began-{context.step_uuid}"), "a", encoding="utf-8") as mark:
            mark.write(f"{time.time()}\n")
    threading.Event().wait(0.05)
    if context.retry_count < (context.get_input("failures") or 0):
        raise RetryableError("not yet")
    return {"attempt": context.retry_count + 1}


@step_handler("refuse")
def refuse(context: StepContext) -> dict:
    """Fails for good."""
    raise PermanentError("refused for good")


@batch_analyzer("divide", worker_template="work")
def divide() -> BatchConfig:
    """Divides three items into three batches."""
    return BatchConfig(total_items=3, batch_size=1)


if __name__ == "__main__":
    run()
