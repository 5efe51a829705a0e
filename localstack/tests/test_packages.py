"""The packages of functions, and the image map."""

from __future__ import annotations

import os
import tempfile
import unittest
from pathlib import Path

from tasker_localstack import packages
from tasker_localstack.images import image_of


class PackagesTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.program = self.folder / "task-intake"
        self.program.write_text("#!/bin/sh\n", encoding="ascii")
        self.program.chmod(0o755)

    def package(self) -> Path:
        return packages.package(self.program, self.folder / "packages")

    def test_a_package_holds_the_program_as_bootstrap_and_nothing_else(self) -> None:
        package = self.package()
        self.assertEqual(os.listdir(package), ["bootstrap"])
        self.assertEqual((package / "bootstrap").read_text(encoding="ascii"), "#!/bin/sh\n")
        self.assertTrue(os.access(package / "bootstrap", os.X_OK))

    def test_the_same_program_is_packaged_once_and_a_changed_one_again(self) -> None:
        first = self.package()
        self.assertEqual(self.package(), first)
        self.program.write_text("#!/bin/sh\nexit 1\n", encoding="ascii")
        second = self.package()
        self.assertNotEqual(second, first)
        packages.remove_others({"task-intake": second})
        self.assertEqual(list((self.folder / "packages").iterdir()), [second])

    def test_a_program_that_was_not_built_is_named(self) -> None:
        with self.assertRaises(SystemExit) as missing:
            packages.package(self.folder / "operator-api", self.folder / "packages")
        self.assertIn("operator-api is missing", str(missing.exception))


class ImagesTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "images.json"
        os.environ["TASKER_IMAGES"] = str(self.file)
        self.addCleanup(os.environ.pop, "TASKER_IMAGES")

    def test_the_images_of_the_pools_are_the_programs_of_a_folder_and_the_map_is_read_each_time(self) -> None:
        for programs in (Path("/one"), Path("/two")):
            packages.write_images(self.file, programs)
            self.assertEqual(
                image_of("tasker-worker-rust:local").command,
                [f"{programs}/tasker-worker", "--", f"{programs}/tasker-example-rust"],
            )
        self.assertIn("PYTHONPATH", image_of("tasker-worker-python:local").environment)

    def test_an_image_that_is_not_in_the_map_is_named_with_the_map(self) -> None:
        self.file.write_text("{}", encoding="ascii")
        with self.assertRaises(LookupError) as missing:
            image_of("tasker-worker-cobol:local")
        self.assertIn("tasker-worker-cobol:local", str(missing.exception))
        self.assertIn(str(self.file), str(missing.exception))


if __name__ == "__main__":
    unittest.main()
