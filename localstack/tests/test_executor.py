"""An execution environment as LocalStack uses it, with a small real function."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
import unittest
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from localstack.services.lambda_.invocation.lambda_models import InvocationResult
from tasker_localstack import executor
from tasker_localstack.executor import ProcessExecutor

PATIENCE_SECONDS = 20


class ExecutorTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.package = self.folder / "package"
        self.package.mkdir()
        self.count = 0
        there = mock.patch.object(executor, "FOLDER", self.folder)
        there.start()
        self.addCleanup(there.stop)
        source = Path(__file__).with_name("bootstrap.py").read_text(encoding="utf-8")
        self.program(f"#!{sys.executable}\n{source}")

    def program(self, text: str) -> None:
        """What the function is."""
        bootstrap = self.package / "bootstrap"
        bootstrap.write_text(text, encoding="utf-8")
        bootstrap.chmod(0o755)

    def executor(self, **config: object) -> ProcessExecutor:
        code = SimpleNamespace(get_unzipped_code_location=lambda: self.package)
        identity = SimpleNamespace(function_name="f", qualifier="$LATEST")
        version = SimpleNamespace(
            id=identity, config=SimpleNamespace(timeout=PATIENCE_SECONDS, **({"code": code} | config))
        )
        made = ProcessExecutor("one", version)
        self.addCleanup(made.stop)
        return made

    def start(self) -> ProcessExecutor:
        made = self.executor()
        made.start({"OWN": "1", "LOCALSTACK_HOSTNAME": "not for functions"})
        return made

    def invoke(self, made: ProcessExecutor, event: dict) -> InvocationResult:
        self.count += 1
        what = {"invoked-function-arn": "arn", "trace-id": "trace", "payload": json.dumps(event)}
        return made.invoke({"invoke-id": f"request-{self.count}", **what})

    def pid(self, made: ProcessExecutor) -> int:
        return json.loads(self.invoke(made, {}).payload)["pid"]

    def await_end(self, pid: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while Path(f"/proc/{pid}").exists():
            self.assertLess(time.monotonic(), deadline, f"process {pid} lives")
            time.sleep(0.01)

    def test_after_a_death_the_next_invocation_gets_a_new_process(self) -> None:
        made = self.start()
        first = self.pid(made)
        for what in ("exit", "die"):
            answer = self.invoke(made, {"do": what})
            self.assertEqual(json.loads(answer.payload)["errorType"], "Runtime.ExitError")
            second = self.pid(made)
            self.assertNotEqual(first, second)
            self.assertEqual(self.pid(made), second)
            first = second

    def test_what_a_function_started_does_not_outlive_it(self) -> None:
        # It answers, and exits with a child behind it.
        self.program(
            f"#!{sys.executable}\nimport subprocess\nchild = subprocess.Popen(['sleep', '1000'])\n"
            f"open({str(self.folder / 'child')!r}, 'w').write(str(child.pid))\n"
        )
        self.start()
        note = self.folder / "child"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (note.exists() and note.read_text()):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        self.await_end(int(note.read_text()))

    def test_a_function_that_ends_before_it_asks_for_an_event_answers_at_once(self) -> None:
        self.program("#!/bin/sh\nexit 7\n")
        began = time.monotonic()
        answer = self.invoke(self.start(), {})
        self.assertIn("exit status 7", json.loads(answer.payload)["errorMessage"])
        self.assertLess(time.monotonic() - began, PATIENCE_SECONDS / 2)

    def test_the_log_of_an_invocation_is_its_own_and_never_empty(self) -> None:
        made = self.start()
        self.invoke(made, {"do": "first"})
        lines = self.invoke(made, {"do": "second"}).logs.splitlines()
        self.assertEqual(
            lines, ["START RequestId: request-2 Version: $LATEST", "told to second", "END RequestId: request-2"]
        )
        self.assertEqual(made.get_logs(), "told to first\ntold to second")

    def test_a_function_knows_where_it_is_and_nothing_of_localstack(self) -> None:
        with mock.patch.dict(os.environ, {"NOT_PASSED_ON": "1"}):
            said = json.loads(self.invoke(self.start(), {"do": "show environment"}).payload)["said"]
        self.assertEqual((said["OWN"], said["LAMBDA_TASK_ROOT"]), ("1", str(self.package)))
        self.assertNotIn("LOCALSTACK_HOSTNAME", said)
        self.assertNotIn("NOT_PASSED_ON", said)

    def test_an_environment_that_was_stopped_has_no_process_and_takes_no_event(self) -> None:
        made = self.start()
        pid = self.pid(made)
        made.stop()
        self.await_end(pid)
        with self.assertRaises(RuntimeError):
            self.invoke(made, {})

    def test_an_image_that_stands_nowhere_is_an_error_of_the_start(self) -> None:
        images = self.folder / "images.json"
        image = SimpleNamespace(image_uri="unknown:1")
        with mock.patch.dict(os.environ, {"TASKER_IMAGES": str(images)}):
            for content in (None, "no JSON", "{}"):
                if content is not None:
                    images.write_text(content, encoding="utf-8")
                with self.assertRaisesRegex(LookupError, str(images)):
                    self.executor(code=None, image=image).start({})

    def test_a_package_that_is_gone_is_an_error_of_the_start(self) -> None:
        shutil.rmtree(self.package)
        with self.assertRaises(OSError):
            self.start()


if __name__ == "__main__":
    unittest.main()
