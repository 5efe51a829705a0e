"""The containers of unpacked images: their configuration and their removal."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock
from collections.abc import Callable
from pathlib import Path

from tasker_localstack import containers, packages
from tasker_localstack.containers import Container
from tasker_localstack.images import Unpacked, image_of
from tasker_localstack.instance import Instance

PYTHON_IMAGE = packages.ROOT / "target/images/tasker-worker-python/rootfs"
BOOTSTRAP = Path(__file__).with_name("bootstrap.py").read_text(encoding="utf-8")
PATIENCE_SECONDS = 20


class BundleTest(unittest.TestCase):
    def bundle(self, environment: dict[str, str] | None = None, **settings: object) -> dict:
        return containers.bundle(Unpacked(Path("/images/x/rootfs"), settings), environment or {})

    def test_the_entry_point_and_the_words_of_cmd_are_started_in_the_images_folder(self) -> None:
        process = self.bundle(Entrypoint=["tasker-worker", "--"], Cmd=["python3", "x.py"], WorkingDir="/tmp")["process"]
        self.assertEqual(process["args"], ["tasker-worker", "--", "python3", "x.py"])
        self.assertEqual(process["cwd"], "/tmp")
        self.assertEqual(self.bundle(Cmd=["worker"])["process"]["args"], ["worker"])

    def test_an_image_that_says_nothing_to_start_is_refused(self) -> None:
        with self.assertRaisesRegex(LookupError, "/images/x/rootfs has neither"):
            self.bundle(Entrypoint=None)

    def test_the_functions_variables_come_over_those_of_the_image_and_none_of_the_machine_do(self) -> None:
        process = self.bundle({"A": "function", "C": "x=y"}, Cmd=["w"], Env=["A=image", "B=image"])["process"]
        self.assertEqual(process["env"], ["A=function", "B=image", "C=x=y"])

    def test_the_process_runs_as_the_images_user_without_capabilities(self) -> None:
        process = self.bundle(Cmd=["w"], User="65534:12")["process"]
        self.assertEqual(process["user"], {"uid": 65534, "gid": 12})
        self.assertEqual({name for rights in process["capabilities"].values() for name in rights}, set())
        self.assertTrue(process["noNewPrivileges"])
        with self.assertRaisesRegex(LookupError, "nobody"):
            self.bundle(Cmd=["w"], User="nobody")

    def test_only_tmp_can_be_written_and_the_network_is_the_machines(self) -> None:
        bundle = self.bundle(Cmd=["w"])
        self.assertEqual(bundle["root"], {"path": "/images/x/rootfs", "readonly": True})
        writable = [m["destination"] for m in bundle["mounts"] if "ro" not in m["options"]]
        self.assertEqual(writable, ["/proc", "/dev", "/tmp"])
        self.assertNotIn("network", [n["type"] for n in bundle["linux"]["namespaces"]])


class UnpackedTest(unittest.TestCase):
    """The entries of an image map, in a checkout of the test."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.programs = self.root / "programs"
        self.programs.mkdir()
        (self.programs / "tasker-worker").write_text("a program", encoding="ascii")
        (self.root / "handlers.py").write_text("handlers", encoding="ascii")
        sums = {name: packages._sum(self.root / name) for name in ("programs/tasker-worker", "handlers.py")}
        made_of = {"{programs}/tasker-worker": sums["programs/tasker-worker"], "handlers.py": sums["handlers.py"]}
        for name in ("tasker-worker-rust", "tasker-worker-python"):
            image = self.root / "target/images" / name
            image.mkdir(parents=True)
            text = json.dumps({"config": {"Cmd": [name]}, "made_of": made_of})
            (image / "image.json").write_text(text, encoding="ascii")
        self.map = self.root / "images.json"
        for patched in (
            unittest.mock.patch.object(packages, "ROOT", self.root),
            unittest.mock.patch("os.geteuid", return_value=0),
            unittest.mock.patch("shutil.which", return_value="/usr/sbin/runc"),
            unittest.mock.patch.dict(os.environ, TASKER_IMAGES=str(self.map)),
        ):
            patched.start()
            self.addCleanup(patched.stop)

    def test_images_built_from_the_current_programs_and_files_are_used_and_reported(self) -> None:
        packages.write_images(self.map, self.programs)
        image = image_of("tasker-worker-python:local")
        folder = self.root / "target/images/tasker-worker-python"
        self.assertEqual(image, Unpacked(folder / "rootfs", {"Cmd": ["tasker-worker-python"]}))
        self.assertIn("containers of their images", packages.describe_images(self.map))

    def test_commands_replace_the_images_after_a_change_and_that_is_reported(self) -> None:
        for file in (self.programs / "tasker-worker", self.root / "handlers.py"):
            before = file.read_bytes()
            file.write_text("changed", encoding="ascii")
            packages.write_images(self.map, self.programs)
            self.assertIn("tasker-worker", image_of("tasker-worker-rust:local").command[0])
            self.assertIn("no image is built", packages.describe_images(self.map))
            file.write_bytes(before)

    def test_without_runc_commands_are_taken(self) -> None:
        with unittest.mock.patch("shutil.which", return_value=None):
            self.assertEqual(packages.unpacked_images(self.programs), {})

    def test_an_image_that_is_gone_is_named(self) -> None:
        packages.write_images(self.map, self.programs)
        (self.root / "target/images/tasker-worker-rust/image.json").unlink()
        with self.assertRaisesRegex(LookupError, "tasker-worker-rust:local"):
            image_of("tasker-worker-rust:local")


@unittest.skipUnless(os.geteuid() == 0 and shutil.which("runc") and PYTHON_IMAGE.exists(), "no image was unpacked")
class ContainerTest(unittest.TestCase):
    """A function that really runs in one."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.addCleanup(containers.remove_all, self.folder)
        settings = {"Entrypoint": ["python3", "-c"], "Cmd": [BOOTSTRAP], "User": "65534:65534", "WorkingDir": "/tmp"}
        settings["Env"] = ["PATH=/usr/bin"]
        self.image = Unpacked(PYTHON_IMAGE, settings)

    def start(self, **environment: str) -> Instance:
        container = functools.partial(Container, self.folder, "f", self.image)
        instance = Instance([], "/", environment, "f", self.folder / "logs", container)
        self.addCleanup(instance.end)
        return instance

    def invoke(self, instance: Instance, event: dict, timeout: int = PATIENCE_SECONDS) -> dict:
        return json.loads(instance.invoke("r", "arn", "trace", json.dumps(event).encode(), timeout).payload)

    def process(self) -> int:
        [bundle] = (self.folder / "bundles").iterdir()
        return int((bundle / "pid").read_text(encoding="ascii"))

    def nothing_is_left(self) -> None:
        self.assertEqual([*self.folder.glob("bundles/*"), *self.folder.glob("runc/*/*")], [])

    def test_it_sees_its_own_environment_and_is_found_by_it_from_outside(self) -> None:
        instance = self.start(MINE="yes")
        seen = self.invoke(instance, {"do": "show environment"})["said"].keys() - {"LC_CTYPE", "HOME"}
        self.assertEqual(seen, {"PATH", "MINE", "AWS_LAMBDA_RUNTIME_API"})
        environment = Path(f"/proc/{self.process()}/environ").read_bytes().split(b"\0")
        self.assertIn(b"MINE=yes", environment)
        self.assertIn("told to show environment\n", (self.folder / "logs/f.log").read_text(encoding="utf-8"))
        instance.end()
        self.nothing_is_left()

    def test_one_that_is_killed_or_exits_answers_in_lambdas_words_and_leaves_nothing(self) -> None:
        instance = self.start()
        self.assertEqual(self.invoke(instance, {"do": "exit"})["errorMessage"].rsplit(": ", 1)[1], "exit status 3")
        self.nothing_is_left()
        instance = self.start()
        self.invoke(instance, {})
        os.kill(self.process(), signal.SIGKILL)
        self.until("it is dead", lambda: not instance.alive())
        self.assertTrue(self.invoke(instance, {})["errorMessage"].endswith("signal: killed"))
        instance.end()
        self.nothing_is_left()

    def test_a_time_out_ends_all_that_is_in_it(self) -> None:
        instance = self.start()
        self.invoke(instance, {})
        own = os.readlink(f"/proc/{self.process()}/ns/pid")
        self.assertEqual(self.invoke(instance, {"do": "hang"}, timeout=2)["errorType"], "Sandbox.Timedout")
        self.assertIn("child ", (self.folder / "logs/f.log").read_text(encoding="utf-8"))
        self.assertNotIn(own, [namespace(process) for process in Path("/proc").glob("[0-9]*")])
        self.nothing_is_left()

    def test_none_outlives_the_process_that_started_it_and_what_is_left_is_removed_at_the_next_start(self) -> None:
        for owned in (True, False):
            program = (
                "import functools, os, signal; from pathlib import Path; from tasker_localstack import containers\n"
                "from tasker_localstack.images import Unpacked; from tasker_localstack.instance import Instance\n"
                f"folder = Path({str(self.folder)!r})\n"
                f"image = Unpacked(Path({str(PYTHON_IMAGE)!r}), {self.image.settings!r})\n"
                f"if {owned}: containers.own(folder)\n"
                "container = functools.partial(containers.Container, folder, 'f', image)\n"
                "i = Instance([], '/', {}, 'f', folder / 'logs', container)\n"
                "i.invoke('r', 'a', 't', b'{}', 20)\n"
                "print(i._container.pid(), flush=True)\n"
                "os.kill(os.getpid(), signal.SIGKILL)\n"
            )
            done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=False)
            self.assertEqual(done.returncode, -signal.SIGKILL)
            process = Path(f"/proc/{int(done.stdout)}")
            if not owned:
                self.assertTrue(process.exists())
                containers.remove_all(self.folder)
            self.until("the function is dead", lambda process=process: not process.exists())
            self.until("nothing is left of it", lambda: not any(self.folder.glob("runc/*/*")))

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            self.assertLess(time.monotonic(), deadline, f"waited for: {what}")
            time.sleep(0.01)


def namespace(process: Path) -> str:
    try:
        return os.readlink(process / "ns/pid")
    except OSError:
        return ""


if __name__ == "__main__":
    unittest.main()
