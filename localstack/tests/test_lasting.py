"""The status of an environment in any state."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import unittest
from pathlib import Path

from tasker_localstack import lasting
from tasker_localstack.emulator import Emulator


class LastingTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_an_empty_folder_has_no_status_and_nothing_to_stop(self) -> None:
        self.assertEqual(lasting.status(self.folder)[0][0], "nothing")
        lasting.down(self.folder / "not there", and_remove=True)
        lasting.down(self.folder, and_remove=True)
        self.assertFalse(self.folder.exists())

    def test_an_unreadable_state_file_counts_as_missing(self) -> None:
        (self.folder / "state.json").write_text('{"port": ', encoding="utf-8")
        self.assertEqual(lasting.status(self.folder)[0][0], "nothing")

    def test_a_process_that_got_the_number_of_ours_is_left_alone(self) -> None:
        with subprocess.Popen(["python3", "-c", "import time; time.sleep(1000)", "localstack.runtime.main"]) as other:
            self.addCleanup(other.kill)
            for pid in (str(other.pid), str(os.getpid()), "0", "", "text"):
                (self.folder / "pid").write_text(pid, encoding="ascii")
                self.assertIsNone(Emulator(self.folder, 1).pid(), pid)
            lasting.down(self.folder, and_remove=False)
            self.assertIsNone(other.poll())
            other.kill()

    def test_a_port_that_another_has_is_refused_in_a_sentence(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with self.assertRaisesRegex(SystemExit, f"port {port} of 127.0.0.1 is not available"):
                Emulator(self.folder, port).start()


if __name__ == "__main__":
    unittest.main()
