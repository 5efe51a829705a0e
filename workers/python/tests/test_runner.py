"""Which steps a worker says that it has."""

import json
import threading
import unittest
import uuid
from queue import SimpleQueue

from test_handlers import step
from test_pool import PATIENCE, with_an_idle_thread

from tasker_worker import step_handler
from tasker_worker.runner import Worker


class LosingWorker(Worker):
    """Runs no step."""

    def _run(self, number, step, stop):
        """What every step ends with here."""


class TheStepsOfAWorker(unittest.TestCase):
    def setUp(self):
        self.lines = SimpleQueue()

    def line(self):
        return json.loads(self.lines.get(timeout=PATIENCE))

    def is_held(self, worker, number):
        worker.receive(json.dumps({"id": number, "held": {}}).encode())
        answer = self.line()
        self.assertEqual(answer["id"], number)
        return answer["held"]

    def test_a_step_is_held_until_its_answer_is_written(self):
        name = f"handler_{uuid.uuid4()}"
        step_handler(name)(lambda: {})
        asked = []

        def write(text):
            if b"outcome" in text:
                asked.append(self.is_held(worker, 1))
            self.lines.put(text)

        worker = Worker(write)
        worker.receive(json.dumps({"id": 1, "step": step(name)}).encode())
        self.assertEqual(self.line(), {"id": 1, "outcome": {"success": {"result": {}}}})
        self.assertEqual(asked, [True])
        with_an_idle_thread(worker._pool)
        self.assertFalse(self.is_held(worker, 1))

    def test_a_step_that_waits_for_a_thread_is_held_and_one_that_was_lost_is_not(self):
        worker, let_go = LosingWorker(self.lines.put), threading.Event()
        worker._pool._most = 1
        self.addCleanup(let_go.set)
        worker._pool.submit(let_go.wait)
        worker.receive(json.dumps({"id": 1, "step": step("any")}).encode())
        self.assertTrue(self.is_held(worker, 1))
        let_go.set()
        with_an_idle_thread(worker._pool)
        self.assertFalse(self.is_held(worker, 1))


if __name__ == "__main__":
    unittest.main()
