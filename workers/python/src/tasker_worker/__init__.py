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
from .decisions import Decision, DecisionHandler, DecisionMixin, DecisionPointOutcome, DecisionType, decision_handler
from .errors import PermanentError, RetryableError, TaskerError
from .registry import depends_on, inputs, step_handler
from .results import ErrorType, StepHandlerResult
from .runner import run
from .step_class import StepHandler
from .version import __version__

__all__ = [
    "Decision",
    "DecisionHandler",
    "DecisionMixin",
    "DecisionPointOutcome",
    "DecisionType",
    "ErrorType",
    "PermanentError",
    "RetryableError",
    "StepContext",
    "StepHandler",
    "StepHandlerResult",
    "TaskerError",
    "__version__",
    "decision_handler",
    "depends_on",
    "inputs",
    "run",
    "step_handler",
]
