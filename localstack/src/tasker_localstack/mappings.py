"""Reads queues for functions as AWS does: with long polls, several concurrent batches, and unchanged bodies.

LocalStack's own poller uses short polls, runs one batch per mapping whatever its MaximumConcurrency is, and rewrites
JSON bodies, so that `1e400` becomes `Infinity`, which is not JSON. Only the polling is replaced: visibility, receives
and redrive are those of LocalStack's queues.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

from localstack.services.lambda_.event_source_mapping.event_processor import PartialBatchFailureError
from localstack.services.lambda_.event_source_mapping.pollers.poller import parse_batch_item_failures
from localstack.services.lambda_.event_source_mapping.pollers.sqs_poller import SqsPoller, transform_into_events
from localstack.services.lambda_.invocation.models import lambda_stores
from localstack.utils.aws.arns import parse_arn

LOG = logging.getLogger(__name__)
# At most how long a deleted mapping continues to poll.
LONG_POLL_SECONDS = 2
# Concurrent batches per mapping. AWS starts with as many, and two cores do not need more.
BATCHES = 5
# Bytes of bodies in an event. AWS's limit for the whole event is 6 MiB.
EVENT_BYTES = 5_500_000


def replace_reading() -> None:
    """Replaces the polling of every mapping of this LocalStack."""
    SqsPoller.poll_events = _poll


def _poll(poller: SqsPoller) -> None:
    places = poller.__dict__.get("tasker_places")
    if places is None:
        places = poller.tasker_places = threading.Semaphore(_concurrency(poller))
    # Acquire a place first: received messages that wait for one would use up their visibility timeout.
    places.acquire()
    try:
        answer = poller.source_client.receive_message(
            QueueUrl=poller.queue_url,
            MaxNumberOfMessages=min(poller.batch_size, 10),
            WaitTimeSeconds=LONG_POLL_SECONDS,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        )
        messages = answer.get("Messages", [])
    except BaseException:
        places.release()
        raise
    if not messages:
        places.release()
        return
    threading.Thread(target=_work, args=(poller, messages, places), name="mapping", daemon=True).start()


def _work(poller: SqsPoller, messages: list[dict], places: threading.Semaphore) -> None:
    try:
        for batch in _events(messages):
            poller.delete_messages(batch, _handled(poller, batch))
    except Exception as error:
        # As on AWS, messages that were not deleted are delivered again after their visibility timeout.
        LOG.warning("a batch of %s failed: %s", poller.source_arn, error)
    finally:
        places.release()


def _handled(poller: SqsPoller, messages: list[dict]) -> set[str]:
    """Invokes the function. Returns the ids that it did not report as failed."""
    ids = {message["MessageId"] for message in messages}
    try:
        poller.processor.process_events_batch(poller.add_source_metadata(transform_into_events(messages)))
    except PartialBatchFailureError as error:
        return ids.difference(parse_batch_item_failures(error.partial_failure_payload, ids))
    return ids


def _events(messages: list[dict]) -> Iterator[list[dict]]:
    """Splits messages into events below the size limit."""
    batch, size = [], 0
    for message in messages:
        length = len(message["Body"].encode())
        if batch and size + length > EVENT_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += length
    yield batch


def _concurrency(poller: SqsPoller) -> int:
    function = poller.processor.sender.target_arn
    arn = parse_arn(function)
    for mapping in list(lambda_stores[arn["account"]][arn["region"]].event_source_mappings.values()):
        if (mapping["EventSourceArn"], mapping["FunctionArn"]) == (poller.source_arn, function):
            return min(mapping.get("ScalingConfig", {}).get("MaximumConcurrency", BATCHES), BATCHES)
    return BATCHES
