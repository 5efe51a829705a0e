"""Failures of a source. The template is ``unreliable_source.yaml``."""

from __future__ import annotations

from typing import Any

from tasker_worker import PermanentError, RetryableError, StepContext, step_handler


@step_handler("read_source")
def read_source(context: StepContext) -> dict[str, Any]:
    """Fails as often as the template says, and for good if it says so."""
    if context.get_config("is_gone"):
        raise PermanentError("the source is gone", error_code="source_gone")
    if context.retry_count < context.get_config("fail_count"):
        raise RetryableError(
            "the source does not answer", error_code="source_away", retry_after=context.get_config("retry_after")
        )
    return {"attempts_before_success": context.retry_count + 1}
