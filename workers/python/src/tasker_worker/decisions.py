"""Decisions: steps whose outcome names the steps after them that are to exist."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Callable, Union

from .functions import registered
from .registry import Function
from .results import StepHandlerResult
from .step_class import StepHandler

#: Names of steps, or the name of one.
Steps = Union["list[str]", "tuple[str, ...]", str]


class DecisionType(str, enum.Enum):
    """The two outcomes of a decision."""

    CREATE_STEPS = "create_steps"
    NO_BRANCHES = "no_branches"


@dataclasses.dataclass(frozen=True)
class DecisionPointOutcome:
    """What a decision decided. Created by ``create_steps`` or ``no_branches``."""

    decision_type: DecisionType
    next_step_names: list[str] = dataclasses.field(default_factory=list)
    #: Kept in the result for the steps after it. It creates nothing.
    dynamic_steps: list[dict[str, Any]] | None = None
    reason: str | None = None
    routing_context: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def create_steps(
        cls,
        step_names: Steps,
        dynamic_steps: list[dict[str, Any]] | None = None,
        routing_context: dict[str, Any] | None = None,
    ) -> DecisionPointOutcome:
        """The named steps are to exist. Each must depend on the decision directly."""
        names = [step_names] if isinstance(step_names, str) else list(step_names)
        return cls(DecisionType.CREATE_STEPS, names, dynamic_steps, None, routing_context or {})

    @classmethod
    def no_branches(cls, reason: str, routing_context: dict[str, Any] | None = None) -> DecisionPointOutcome:
        """No step is to exist, and so none of those that only the decision leads to."""
        return cls(DecisionType.NO_BRANCHES, reason=reason, routing_context=routing_context or {})

    def to_result(self) -> dict[str, Any]:
        """The result of the decision's step, of which the engine reads ``decision_point_outcome`` alone."""
        outcome: dict[str, Any] = {"type": self.decision_type.value}
        result: dict[str, Any] = {"decision_point_outcome": outcome}
        if self.decision_type is DecisionType.CREATE_STEPS:
            outcome["step_names"] = self.next_step_names
        else:
            result["reason"] = self.reason
        if self.dynamic_steps:
            result["dynamic_steps"] = self.dynamic_steps
        if self.routing_context:
            result["routing_context"] = self.routing_context
        return result


@dataclasses.dataclass(frozen=True)
class Decision:
    """What a function decorated with ``@decision_handler`` returns. Created by ``route``, ``skip`` or ``create``."""

    step_result: StepHandlerResult

    @classmethod
    def route(cls, steps: Steps, **routing_context: Any) -> Decision:
        """The named steps are to exist. They find ``routing_context`` in the decision's result, under that key."""
        outcome = DecisionPointOutcome.create_steps(steps, routing_context=routing_context)
        return cls(StepHandlerResult.success(outcome.to_result()))

    @classmethod
    def skip(cls, reason: str, **routing_context: Any) -> Decision:
        """No step is to exist, and so none of those that only the decision leads to."""
        outcome = DecisionPointOutcome.no_branches(reason, routing_context)
        return cls(StepHandlerResult.success(outcome.to_result()))

    @classmethod
    def create(cls, steps: Steps, result: Any = None, metadata: dict[str, Any] | None = None) -> Decision:
        """The named steps are to exist, none if the list is empty. The decision's result is ``result`` as it is."""
        names = [steps] if isinstance(steps, str) else list(steps)
        success = StepHandlerResult.success(result, metadata).outcome["success"]
        return cls(StepHandlerResult({"success": {**success, "decision": {"create": names}}}))


def decision_handler(name: str, version: str = "1.0.0") -> Callable[[Function], Function]:
    """Registers a function that returns a :class:`Decision`, under the name that templates use."""
    return registered(name, version, convert=decided)


def decided(value: Any) -> Any:
    """The result of a decision, and anything else as it is."""
    return value.step_result if isinstance(value, Decision) else value


class DecisionMixin:
    """The results of decisions, for classes of handlers."""

    def decision_success(
        self,
        steps: Steps,
        routing_context: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> StepHandlerResult:
        """The named steps are to exist; see :meth:`Decision.route`."""
        outcome = DecisionPointOutcome.create_steps(steps, routing_context=routing_context)
        return self.decision_success_with_outcome(outcome, metadata)

    def decision_success_with_outcome(
        self, outcome: DecisionPointOutcome, metadata: dict[str, Any] | None = None
    ) -> StepHandlerResult:
        """A success with an outcome that was made before."""
        return StepHandlerResult.success(outcome.to_result(), metadata)

    def decision_no_branches(
        self, outcome: DecisionPointOutcome, metadata: dict[str, Any] | None = None
    ) -> StepHandlerResult:
        """A success with an outcome that creates nothing."""
        return self.decision_success_with_outcome(outcome, metadata)

    def route_to_steps(
        self,
        step_names: Steps,
        routing_context: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> StepHandlerResult:
        """Another name of :meth:`decision_success`."""
        return self.decision_success(step_names, routing_context, metadata)

    def skip_branches(
        self,
        reason: str,
        routing_context: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> StepHandlerResult:
        """No step is to exist; see :meth:`Decision.skip`."""
        return self.decision_no_branches(DecisionPointOutcome.no_branches(reason, routing_context), metadata)

    def decision_failure(
        self,
        message: str,
        error_type: str = "decision_error",
        retryable: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> StepHandlerResult:
        """Nothing could be decided. By default another attempt cannot either."""
        return StepHandlerResult.failure(message, error_type, retryable, metadata)


class DecisionHandler(DecisionMixin, StepHandler):
    """A decision as a class."""
