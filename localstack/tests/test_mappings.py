"""The polling of queues: the events of messages, and the deleted messages."""

from __future__ import annotations

import threading
import unittest
from types import SimpleNamespace

from localstack.services.lambda_.event_source_mapping.event_processor import PartialBatchFailureError
from tasker_localstack import mappings


def message(name: str, body: str = "{}") -> dict:
    return {"MessageId": name, "ReceiptHandle": f"handle-{name}", "Body": body, "MD5OfBody": "-"}


class Poller:
    """The parts of LocalStack's poller that `mappings` uses."""

    source_arn = "arn:aws:sqs:us-east-1:000000000000:q"
    queue_url = "http://127.0.0.1/000000000000/q"
    batch_size = 10

    def __init__(self, waiting: list[list[dict]], outcome: Exception | None = None) -> None:
        self.tasker_places = threading.Semaphore(1)
        self.source_client = SimpleNamespace(
            receive_message=lambda **_: {"Messages": waiting.pop(0) if waiting else []}
        )
        self.processor = SimpleNamespace(process_events_batch=self.process)
        self.outcome = outcome
        self.events: list[list[dict]] = []
        self.deleted: set[str] = set()

    def add_source_metadata(self, events: list[dict]) -> list[dict]:
        return events

    def process(self, events: list[dict]) -> None:
        self.events.append(events)
        if self.outcome is not None:
            raise self.outcome

    def delete_messages(self, _messages: list[dict], ids: set[str]) -> None:
        self.deleted |= ids

    def poll(self) -> None:
        """Polls once, and waits until its batch is done."""
        mappings._poll(self)
        self.tasker_places.acquire()
        self.tasker_places.release()


class MappingsTest(unittest.TestCase):
    def test_bodies_come_as_they_were_sent(self) -> None:
        poller = Poller([[message("1", '{ "n": 1e400, "m": 1.0 }'), message("2", "no json")]])
        poller.poll()
        self.assertEqual([event["body"] for event in poller.events[0]], ['{ "n": 1e400, "m": 1.0 }', "no json"])
        self.assertEqual(poller.deleted, {"1", "2"})

    def test_what_a_function_reports_as_failed_stays_in_the_queue(self) -> None:
        failed = PartialBatchFailureError({"batchItemFailures": [{"itemIdentifier": "2"}]}, {})
        poller = Poller([[message("1"), message("2"), message("3")]], failed)
        poller.poll()
        self.assertEqual(poller.deleted, {"1", "3"})

    def test_a_batch_whose_function_died_stays_as_a_whole_and_gives_its_place_back(self) -> None:
        poller = Poller([[message("1")], [message("2")]], RuntimeError("Runtime.ExitError"))
        with self.assertLogs(mappings.LOG):
            poller.poll()
            poller.poll()
        self.assertEqual(len(poller.events), 2)
        self.assertEqual(poller.deleted, set())

    def test_a_failure_report_that_names_no_message_of_the_batch_fails_all_of_it(self) -> None:
        poller = Poller(
            [[message("1")]], PartialBatchFailureError({"batchItemFailures": [{"itemIdentifier": "x"}]}, {})
        )
        with self.assertLogs(mappings.LOG):
            poller.poll()
        self.assertEqual(poller.deleted, set())

    def test_an_empty_poll_and_a_failing_one_give_their_place_back(self) -> None:
        poller = Poller([])
        poller.poll()
        poller.source_client.receive_message = lambda **_: 1 / 0
        with self.assertRaises(ZeroDivisionError):
            mappings._poll(poller)
        self.assertTrue(poller.tasker_places.acquire(blocking=False))

    def test_large_messages_come_in_as_many_events_as_they_need(self) -> None:
        poller = Poller([[message(str(n), "x" * 1_000_000) for n in range(9)]])
        poller.poll()
        self.assertEqual([len(events) for events in poller.events], [5, 4])
        self.assertEqual(len(poller.deleted), 9)


if __name__ == "__main__":
    unittest.main()
