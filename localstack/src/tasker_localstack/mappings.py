"""How queues are read for functions: as AWS does it, by long polls, several batches at once, bodies as they were sent.

LocalStack's own way asks again and again, has one batch of a mapping under way whatever its MaximumConcurrency is, and
writes bodies that are JSON anew, so that `1e400` becomes `Infinity`, which is none. Only its reading is replaced:
visibility, receives and redrive are its queues'.
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
# How long a mapping that was deleted goes on asking, at most.
LONG_POLL_SECONDS = 2
# Batches of a mapping at once; AWS begins with as many, and a machine of two cores has enough of them.
BATCHES = 5
# Bytes of bodies in an event; AWS's limit for the whole of it is 6 MiB.
EVENT_BYTES = 5_500_000


def replace_reading() -> None:
    """From now on every mapping of this LocalStack reads so."""
    SqsPoller.poll_events = _poll


def _poll(poller: SqsPoller) -> None:
    places = poller.__dict__.get("tasker_places")
    if places is None:
        places = poller.tasker_places = threading.Semaphore(_concurrency(poller))
    # First the place: what is received and waits for one would use its visibility up.
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
        # As on AWS: what was not deleted comes again when its visibility is over.
        LOG.warning("a batch of %s failed: %s", poller.source_arn, error)
    finally:
        places.release()


def _handled(poller: SqsPoller, messages: list[dict]) -> set[str]:
    """Invokes the function; the ids that it did not report as failed."""
    ids = {message["MessageId"] for message in messages}
    try:
        poller.processor.process_events_batch(poller.add_source_metadata(transform_into_events(messages)))
    except PartialBatchFailureError as error:
        return ids.difference(parse_batch_item_failures(error.partial_failure_payload, ids))
    return ids


def _events(messages: list[dict]) -> Iterator[list[dict]]:
    """The messages in as many events as their size needs."""
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
