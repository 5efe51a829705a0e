"""A step that a person does. The template is ``document_review.yaml``."""

from __future__ import annotations

from typing import Any

from tasker_worker import PermanentError, depends_on, inputs, step_handler


@step_handler("prepare_document")
@inputs("title", "text")
def prepare_document(title: str, text: str) -> dict[str, Any]:
    """Counts the words for the reviewer."""
    return {"title": title, "words": len(text.split())}


@step_handler("human_review")
@depends_on(document="prepare_document")
def human_review(document: dict[str, Any]) -> None:
    """Fails for good, and says what a person must do."""
    raise PermanentError(
        f"{document['title']!r} must be read by a person: resolve this step with "
        'a result such as {"approved": true, "reviewer": "Ada"}',
        error_code="needs_a_person",
    )


@step_handler("publish_document")
@depends_on(document="prepare_document", review="human_review")
def publish_document(document: dict[str, Any], review: dict[str, Any] | None) -> dict[str, Any]:
    """Publishes what was approved. A review without a result, which was skipped, approves nothing."""
    approved = bool((review or {}).get("approved"))
    return {"title": document["title"], "published": approved, "reviewer": (review or {}).get("reviewer")}
