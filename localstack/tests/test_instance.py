"""The Runtime API and the processes behind it, with a small real function."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Callable
from pathlib import Path

from tasker_localstack.instance import Answer, Instance

BOOTSTRAP = [sys.executable, str(Path(__file__).with_name("bootstrap.py"))]
ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
PATIENCE_SECONDS = 20


class InstanceTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.count = 0

    def start(self, **environment: str) -> Instance:
        instance = Instance(BOOTSTRAP, "/", {"PATH": os.environ["PATH"], **environment}, "f", self.folder)
        self.addCleanup(instance.end)
        return instance

    def invoke(self, instance: Instance, event: dict, timeout: int = PATIENCE_SECONDS) -> Answer:
        self.count += 1
        return instance.invoke(f"request-{self.count}", ARN, "Root=1-2-3", json.dumps(event).encode(), timeout)

    def failure(self, answer: Answer) -> tuple[str, str]:
        self.assertTrue(answer.is_error)
        body = json.loads(answer.payload)
        return body["errorType"], body["errorMessage"]

    def log(self) -> str:
        return (self.folder / "f.log").read_text(encoding="utf-8")

    def test_an_event_comes_with_all_that_lambda_says_of_it_and_one_process_serves_many(self) -> None:
        instance = self.start()
        began = time.time()
        first, second = (json.loads(self.invoke(instance, {}, timeout=7).payload) for _ in range(2))
        self.assertEqual(first["pid"], second["pid"])
        headers = second["headers"]
        self.assertEqual(headers["lambda-runtime-aws-request-id"], "request-2")
        self.assertEqual(headers["lambda-runtime-invoked-function-arn"], ARN)
        self.assertEqual(headers["lambda-runtime-trace-id"], "Root=1-2-3")
        deadline = int(headers["lambda-runtime-deadline-ms"]) / 1000
        self.assertTrue(began + 7 <= deadline <= time.time() + 7, deadline)

    def test_what_a_function_reports_as_its_error_is_the_answer_and_its_process_stays(self) -> None:
        instance = self.start()
        self.assertEqual(self.failure(self.invoke(instance, {"do": "fail"})), ("Boom", "as it was told"))
        self.assertTrue(instance.alive())

    def test_a_process_that_exits_is_an_exit_error_at_once(self) -> None:
        instance = self.start()
        kind, message = self.failure(self.invoke(instance, {"do": "exit"}))
        self.assertEqual(kind, "Runtime.ExitError")
        self.assertEqual(message, "RequestId: request-1 Error: Runtime exited with error: exit status 3")
        self.assertFalse(instance.alive())

    def test_a_process_that_is_killed_is_an_exit_error_in_lambdas_words(self) -> None:
        kind, message = self.failure(self.invoke(self.start(), {"do": "die"}))
        self.assertEqual(kind, "Runtime.ExitError")
        self.assertTrue(message.endswith("signal: killed"), message)

    def test_a_process_that_died_while_it_was_idle_answers_too(self) -> None:
        instance = self.start()
        pid = json.loads(self.invoke(instance, {}).payload)["pid"]
        os.kill(pid, signal.SIGKILL)
        self.until("it is dead", lambda: not instance.alive())
        self.assertEqual(self.failure(self.invoke(instance, {}))[0], "Runtime.ExitError")

    def test_a_time_out_kills_the_process_and_all_that_it_started(self) -> None:
        instance = self.start()
        self.invoke(instance, {})
        kind, message = self.failure(self.invoke(instance, {"do": "hang"}, timeout=1))
        self.assertEqual(kind, "Sandbox.Timedout")
        self.assertTrue(message.endswith("Task timed out after 1.00 seconds"), message)
        self.assertFalse(instance.alive())
        child = int(re.search(r"child (\d+)", self.log())[1])
        self.until("its child is dead", lambda: gone(child))

    def test_why_a_function_cannot_start_is_the_answer_to_its_first_event(self) -> None:
        answer = self.invoke(self.start(FAIL_AT_START="no such secret"), {})
        self.assertEqual(self.failure(answer), ("Start.Failed", "no such secret"))
        self.assertIn("no such secret", self.log())

    def test_an_answer_beyond_six_mebibytes_is_refused(self) -> None:
        instance = self.start()
        answer = self.invoke(instance, {"do": "say much", "size": 6 * 1024 * 1024})
        self.assertEqual(self.failure(answer)[0], "Function.ResponseSizeTooLarge")
        self.assertFalse(self.invoke(instance, {"do": "say much", "size": 5 * 1024 * 1024}).is_error)

    def test_a_function_sees_the_environment_that_it_was_given_and_no_other(self) -> None:
        os.environ["OF_LOCALSTACK"] = "secret"
        self.addCleanup(os.environ.pop, "OF_LOCALSTACK")
        answer = self.invoke(self.start(MINE="yes"), {"do": "show environment"})
        seen = json.loads(answer.payload)["said"].keys() - {"LC_CTYPE"}
        self.assertEqual(seen, {"PATH", "MINE", "AWS_LAMBDA_RUNTIME_API"})

    def test_what_is_printed_and_how_long_the_start_took_are_in_the_logs(self) -> None:
        self.invoke(self.start(), {"do": "fail"})
        self.assertIn("told to fail\n", self.log())
        start = json.loads((self.folder / "cold-starts.jsonl").read_text(encoding="utf-8"))
        self.assertEqual(start["function"], "f")
        self.assertTrue(start["ms"] > 0 and start["rss_kib"] > 1000, start)

    def test_a_command_that_is_not_there_is_an_error_of_the_start(self) -> None:
        with self.assertRaises(OSError):
            Instance(["/no/such/program"], "/no/such/folder", {}, "f", self.folder)

    def test_a_process_dies_with_the_one_that_started_it(self) -> None:
        program = (
            "import os, sys, signal, json; from pathlib import Path; from tasker_localstack.instance import Instance\n"
            f"i = Instance({BOOTSTRAP!r}, '/', {{'PATH': os.environ['PATH']}}, 'f', Path({str(self.folder)!r}))\n"
            "print(json.loads(i.invoke('r', 'a', 't', b'{}', 20).payload)['pid'], flush=True)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, -signal.SIGKILL)
        self.until("the function is dead", lambda: gone(int(done.stdout)))

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            self.assertLess(time.monotonic(), deadline, f"waited for: {what}")
            time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


if __name__ == "__main__":
    unittest.main()
