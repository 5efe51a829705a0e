"""The worker protocol with a real process."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

from test_handlers import step

SOURCES = pathlib.Path(__file__).parents[1] / "src"

HANDLERS = """
import asyncio
import pathlib
import threading
import time
from tasker_worker import step_handler

both_are_here = threading.Barrier(2, timeout=20)

@step_handler("meet")
def meet():
    both_are_here.wait()
    return {"met": True}

@step_handler("talk")
def talk(context):
    print("to stdout")
    context.heartbeat()

@step_handler("until_stopped")
def until_stopped(context):
    while context.heartbeat():
        time.sleep(0.01)
    return {"cancelled": context.is_cancelled()}

ten_threads_are_here = threading.Barrier(10, timeout=20)

@step_handler("meet_in_threads")
async def meet_in_threads():
    await asyncio.to_thread(ten_threads_are_here.wait)
    return {"met": True}

def in_thread(context):
    print("begin", context.retry_count)
    context.heartbeat()
    gate = pathlib.Path(context.get_input("gate"))
    while not gate.exists():
        time.sleep(0.01)
    print("end", context.retry_count)

@step_handler("to_thread")
async def to_thread(context):
    await asyncio.to_thread(in_thread, context)
    return {"done": True}

@step_handler("in_executor")
async def in_executor(context):
    await asyncio.get_running_loop().run_in_executor(None, in_thread, context)
    return {"done": True}

@step_handler("catches")
async def catches(context):
    try:
        await asyncio.to_thread(in_thread, context)
    except asyncio.CancelledError:
        return {"caught": True}

@step_handler("cancelled_at_once")
async def cancelled_at_once(context):
    context.heartbeat()
    await asyncio.Event().wait()

@step_handler("leaves_a_thread")
async def leaves_a_thread(context):
    asyncio.get_running_loop().run_in_executor(None, in_thread, context)
    return {"left": True}

@step_handler("hang")
def hang():
    time.sleep(3600)
"""


class Child:
    """A worker process and our ends of its pipes."""

    def __init__(self, handlers):
        child_in, to_child = os.pipe()
        from_child, child_out = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tasker_worker", str(handlers)],
            env={**os.environ, "PYTHONPATH": str(SOURCES), "TASKER_PIPES": f"{child_in},{child_out}"},
            pass_fds=(child_in, child_out),
            stdout=subprocess.PIPE,
        )
        os.close(child_in)
        os.close(child_out)
        self.steps = os.fdopen(to_child, "w")
        self.answers = os.fdopen(from_child)

    def send(self, number, message):
        self.send_line(json.dumps({"id": number, "step": message}))

    def stop(self, number):
        self.send_line(json.dumps({"id": number, "stop": {}}))

    def ask(self, number):
        self.send_line(json.dumps({"id": number, "held": {}}))

    def send_line(self, line):
        self.steps.write(line + "\n")
        self.steps.flush()

    def receive(self):
        return json.loads(self.answers.readline())

    def end(self):
        self.steps.close()
        output, _ = self.process.communicate(timeout=20)
        self.answers.close()
        return output.decode()


class APipedWorker(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        handlers = pathlib.Path(folder.name) / "handlers.py"
        handlers.write_text(HANDLERS)
        self.gate = pathlib.Path(folder.name) / "gate"
        self.child = Child(handlers)
        self.ready = self.child.receive()["ready"]

    def tearDown(self):
        if self.child.process.poll() is None:
            self.child.process.kill()
            self.child.end()

    def test_it_says_which_handlers_it_has(self):
        self.assertEqual(self.ready["protocol"], 1)
        self.assertEqual(self.ready["sdk"], "python")
        self.assertTrue({"hang", "meet", "talk", "until_stopped"} <= set(self.ready["handlers"]))
        self.child.end()

    def test_it_runs_steps_at_once(self):
        self.child.send(1, step("meet"))
        self.child.send(2, step("meet"))
        answers = [self.child.receive() for _ in range(2)]
        self.assertEqual({answer["id"] for answer in answers}, {1, 2})
        self.assertTrue(all(answer["outcome"]["success"]["result"]["met"] for answer in answers))
        self.child.end()

    def test_print_goes_to_stdout_and_a_heartbeat_to_the_pipe(self):
        self.child.send(7, step("talk"))
        self.assertEqual(self.child.receive(), {"id": 7, "heartbeat": {}})
        self.assertEqual(self.child.receive(), {"id": 7, "outcome": {"success": {"result": {}}}})
        self.assertEqual(self.child.end(), "to stdout\n")

    def outcome(self, number):
        """The next outcome, which must be that of this step."""
        while True:
            answer = self.child.receive()
            self.assertEqual(answer["id"], number)
            if "outcome" in answer:
                return answer["outcome"]

    def test_a_handler_that_asks_learns_that_its_step_is_no_longer_wanted(self):
        self.child.send(7, step("until_stopped"))
        self.assertEqual(self.child.receive(), {"id": 7, "heartbeat": {}})
        self.child.stop(7)
        self.assertEqual(self.outcome(7), {"success": {"result": {"cancelled": True}}})
        # Neither the stop of an answered step nor that of an unknown one means anything.
        self.child.stop(7)
        self.child.stop(99)
        self.child.send(8, step("talk"))
        self.assertEqual(self.outcome(8), {"success": {"result": {}}})
        self.child.end()

    def test_a_step_is_held_while_its_handler_runs_and_not_before_or_after(self):
        self.child.ask(7)
        self.assertEqual(self.child.receive(), {"id": 7, "held": False})
        self.child.send(7, step("to_thread", context={"gate": str(self.gate)}))
        self.assertEqual(self.child.receive(), {"id": 7, "heartbeat": {}})
        self.child.ask(7)
        self.assertEqual(self.child.receive(), {"id": 7, "held": True})
        self.gate.touch()
        self.assertEqual(self.outcome(7), {"success": {"result": {"done": True}}})
        # The step leaves only after its outcome was written: maybe later than this question arrives.
        answer = {"held": True}
        while answer["held"]:
            self.child.ask(7)
            answer = self.child.receive()
        self.assertEqual(answer, {"id": 7, "held": False})
        self.child.end()

    def test_ten_async_handlers_run_ten_threads_at_once(self):
        for number in range(10):
            self.child.send(number, step("meet_in_threads"))
        for _ in range(10):
            self.assertEqual(self.child.receive()["outcome"], {"success": {"result": {"met": True}}})
        self.child.end()

    def test_a_stopped_step_is_answered_when_the_threads_that_it_started_have_ended(self):
        caught = {"success": {"result": {"caught": True}}}
        cases = [("to_thread", {"released": {}}), ("in_executor", {"released": {}}), ("catches", caught)]
        for number, (handler, _) in enumerate(cases):
            self.child.send(number, step(handler, context={"gate": str(self.gate)}))
            self.assertEqual(self.child.receive(), {"id": number, "heartbeat": {}})
            self.child.stop(number)
        # Later steps are cancelled by the same loop and answered, and these are not, because their threads run.
        for number in range(10, 30):
            self.child.send(number, step("cancelled_at_once"))
            self.assertEqual(self.child.receive(), {"id": number, "heartbeat": {}})
            self.child.stop(number)
            self.assertEqual(self.child.receive(), {"id": number, "outcome": {"released": {}}})
        self.gate.touch()
        answers = [self.child.receive() for _ in cases]
        found = {answer["id"]: answer["outcome"] for answer in answers}
        self.assertEqual(found, dict(enumerate(outcome for _, outcome in cases)))
        # A retry that is sent now cannot overlap.
        self.child.send(40, step("to_thread", attempt=2, context={"gate": str(self.gate)}))
        self.assertEqual(self.child.receive(), {"id": 40, "heartbeat": {}})
        self.assertEqual(self.outcome(40), {"success": {"result": {"done": True}}})
        self.assertEqual(self.child.end().split("\n"), ["begin 0"] * 3 + ["end 0"] * 3 + ["begin 1", "end 1", ""])

    def test_a_handler_that_returns_is_answered_at_once_although_it_leaves_a_thread(self):
        self.child.send(1, step("leaves_a_thread", context={"gate": str(self.gate)}))
        self.assertEqual(self.outcome(1), {"success": {"result": {"left": True}}})
        self.child.end()

    def test_lines_and_keys_that_it_does_not_know_are_ignored(self):
        for line in [
            '{"pause": 3}',
            '{"id": 4, "pause": {}}',
            "[]",
            "7",
            "null",
            "not JSON",
            '{"id": "x", "stop": {}}',
        ]:
            self.child.send_line(line)
        self.child.send_line(json.dumps({"id": 1, "new": [1], "step": {**step("talk"), "also_new": {}}}))
        self.assertEqual(self.outcome(1), {"success": {"result": {}}})
        self.child.end()

    def test_a_step_that_python_cannot_read_is_a_failure_and_the_next_one_runs(self):
        line = json.dumps({"id": 1, "step": step("talk", context={"n": "N"})}).replace('"N"', "1" * 5000)
        self.child.send_line(line)
        failure = self.outcome(1)["failure"]
        self.assertEqual((failure["error_type"], failure["retryable"]), ("invalid_input", False))
        self.assertIn("4300", failure["message"])
        self.child.send(2, step("talk"))
        self.assertEqual(self.outcome(2), {"success": {"result": {}}})
        self.child.end()

    def test_it_ends_when_its_pipe_closes_although_a_handler_hangs(self):
        self.child.send(1, step("hang"))
        self.child.send(2, step("talk"))
        self.child.receive()
        self.child.end()
        self.assertEqual(self.child.process.returncode, 0)


class AWorkerStartedByHand(unittest.TestCase):
    def said(self, **pipes):
        environment = {key: value for key, value in os.environ.items() if key != "TASKER_PIPES"}
        ended = subprocess.run(
            [sys.executable, "-c", "import tasker_worker; tasker_worker.run()"],
            env={**environment, "PYTHONPATH": str(SOURCES), **pipes},
            capture_output=True,
            text=True,
            timeout=20,
        )
        self.assertEqual(ended.returncode, 1)
        self.assertEqual(ended.stderr.count("\n"), 1, ended.stderr)
        return ended.stderr

    def test_it_says_how_it_is_started(self):
        for pipes in ({}, {"TASKER_PIPES": ""}):
            self.assertIn("tasker-ctl dev --worker", self.said(**pipes))

    def test_wrong_pipes_end_it_with_one_sentence_that_names_them(self):
        for pipes in ("3", "3,4,5", "a,b", " ", "3,\udcff", "0,1", "-1,-2", "997,998", "99999999999,4"):
            expected = "error: TASKER_PIPES is wrong: expected the numbers of two open pipes, such as 3,4\n"
            self.assertEqual(self.said(TASKER_PIPES=pipes), expected)


if __name__ == "__main__":
    unittest.main()
