"""The plugin by which LocalStack finds the executor, if LAMBDA_RUNTIME_EXECUTOR is `process`."""

from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin


class ProcessPlugin(RuntimeExecutorPlugin):
    name = "process"

    def load(self, *_args, **_kwargs):
        from tasker_localstack import containers, mappings
        from tasker_localstack.executor import FOLDER, ProcessExecutor

        # LocalStack loads the executor before the first function, and so before the first mapping.
        mappings.replace_reading()
        containers.own(FOLDER)
        return ProcessExecutor
