"""How LocalStack finds the executor: by its entry point, when LAMBDA_RUNTIME_EXECUTOR is `process`."""

from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin


class ProcessPlugin(RuntimeExecutorPlugin):
    name = "process"

    def load(self, *_args, **_kwargs):
        from tasker_localstack import containers, mappings
        from tasker_localstack.executor import FOLDER, ProcessExecutor

        # The executor is asked for before the first function is there, and no mapping is before its function.
        mappings.replace_reading()
        containers.own(FOLDER)
        return ProcessExecutor
