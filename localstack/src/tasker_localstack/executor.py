"""Runs functions as local processes, where LocalStack would start containers with Docker.

The process of a zip package is its `bootstrap`. For an image, the image map names an unpacked image, which runc starts
as a container, or a command.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from pathlib import Path

from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.runtime_executor import RuntimeExecutor

from localstack import config
from tasker_localstack.containers import Container
from tasker_localstack.images import Image, Unpacked, image_of
from tasker_localstack.instance import Instance

LOG = logging.getLogger(__name__)
# The folder of this LocalStack, which contains `logs/`.
FOLDER = Path(os.environ.get("TASKER_LOCALSTACK_DIR") or ".")
# The variables that a function inherits from this process.
PASSED_ON = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
# Bytes of an invocation's log that LocalStack receives.
LOGGED_BYTES = 64 * 1024
# Lines of the log to show if a function cannot start.
SHOWN = 20


class ProcessExecutor(RuntimeExecutor):
    """One execution environment. If its process died, the next invocation starts a new one."""

    def __init__(self, id: str, function_version: FunctionVersion) -> None:
        super().__init__(id=id, function_version=function_version)
        self._environment: dict[str, str] = {}
        self._instance: Instance | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def start(self, env_vars: dict[str, str]) -> None:
        self._environment = self._environment_of(env_vars)
        self._instance = self._begin()

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._instance is not None:
                self._instance.end()

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        timeout = self.function_version.config.timeout
        with self._lock:
            if self._stopped:
                raise RuntimeError("the execution environment was stopped")
            if self._instance is None or not self._instance.alive():
                self._instance = self._begin()
            instance = self._instance
        begin = self._log().stat().st_size if self._log().exists() else 0
        answer = instance.invoke(
            request_id=payload["invoke-id"],
            arn=payload["invoked-function-arn"],
            trace=payload["trace-id"],
            event=payload["payload"].encode(),
            timeout=timeout,
        )
        # START and END lines as on Lambda. They are also needed because LocalStack's CloudWatch rejects empty logs.
        request = f"RequestId: {payload['invoke-id']}"
        version = self.function_version.id.qualifier
        logs = f"START {request} Version: {version}\n{self._logged_since(begin)}END {request}\n"
        return InvocationResult(payload["invoke-id"], answer.payload, is_error=answer.is_error, logs=logs)

    def _logged_since(self, begin: int) -> str:
        """The log since an offset, including that of the function's other instances, for LocalStack's CloudWatch."""
        with self._log().open("rb") as log:
            log.seek(begin)
            return log.read(LOGGED_BYTES).decode("utf-8", errors="replace")

    def get_address(self) -> str:
        return "127.0.0.1"

    def get_endpoint_from_executor(self) -> str:
        return "127.0.0.1"

    def get_runtime_endpoint(self) -> str:
        return f"http://127.0.0.1:{config.GATEWAY_LISTEN[0].port}/unused"

    def get_logs(self) -> str:
        lines = self._log().read_text(encoding="utf-8", errors="replace").splitlines() if self._log().exists() else []
        return "\n".join(lines[-SHOWN:])

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        if function_version.config.code:
            function_version.config.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        if function_version.config.code:
            function_version.config.code.destroy_cached()

    def _begin(self) -> Instance:
        image = self._image()
        function, logs = self.function_version.id.function_name, FOLDER / "logs"
        if isinstance(image, Unpacked):
            container = functools.partial(Container, FOLDER, function, image)
            return Instance([], "/", self._environment, function, logs, container)
        own = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        environment = {**own, "TMPDIR": "/tmp", **self._environment, **image.environment}
        return Instance(image.command, image.directory, environment, function, logs)

    def _image(self) -> Image | Unpacked:
        code = self.function_version.config.code
        if code:
            task = code.get_unzipped_code_location()
            return Image([str(task / "bootstrap")], str(task), {"LAMBDA_TASK_ROOT": str(task)})
        return image_of(self.function_version.config.image.image_uri)

    def _log(self) -> Path:
        return FOLDER / "logs" / f"{self.function_version.id.function_name}.log"

    def _environment_of(self, env_vars: dict[str, str]) -> dict[str, str]:
        return {name: str(value) for name, value in env_vars.items() if not name.startswith("LOCALSTACK_")}
