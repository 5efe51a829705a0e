"""Write step handlers as plain functions, and run them.

    from tasker_worker import PermanentError, depends_on, inputs, run, step_handler

    @step_handler("charge_card")
    @depends_on(order="validate_order")
    @inputs("card")
    def charge_card(order, card):
        if card == "declined":
            raise PermanentError("the card was declined")
        return {"charged_cents": order["total_cents"]}

    if __name__ == "__main__":
        run()

A handler runs at least once for each step: use ``context.step_uuid`` as the idempotency key of actions that must not
happen twice. ``tasker-worker`` or ``tasker-ctl dev`` starts the program and talks to it over two pipes. It never sees
the database. ``print`` and ``logging`` work as usual: their output becomes log lines.
"""

from .context import StepContext
from .errors import PermanentError, RetryableError, TaskerError
from .registry import depends_on, inputs, step_handler
from .results import ErrorType, StepHandlerResult
from .runner import run
from .version import __version__

__all__ = [
    "ErrorType",
    "PermanentError",
    "RetryableError",
    "StepContext",
    "StepHandlerResult",
    "TaskerError",
    "__version__",
    "depends_on",
    "inputs",
    "run",
    "step_handler",
]
