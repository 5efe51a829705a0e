"""The Runtime API as runtimes of several languages use it."""

from __future__ import annotations

import http.client
import queue
import unittest

from tasker_localstack.instance import Event
from tasker_localstack.runtime_api import PREFIX, RuntimeApi


class Told:
    """Stands in for an instance: serves one event and records the calls."""

    def __init__(self) -> None:
        self.settled: queue.Queue[tuple[str, bytes, bool]] = queue.Queue()
        self.init_error = b""

    def next_event(self) -> Event:
        return Event("one", "arn", "trace", b'{"a": 1}', 1)

    def settle(self, request_id: str, payload: bytes, is_error: bool) -> bool:
        self.settled.put((request_id, payload, is_error))
        return request_id == "one"

    def init_failed(self, payload: bytes) -> None:
        self.init_error = payload


class RuntimeApiTest(unittest.TestCase):
    def setUp(self) -> None:
        self.told = Told()
        api = RuntimeApi(self.told)
        self.addCleanup(api.close)
        self.connection = http.client.HTTPConnection(api.address, timeout=20)
        self.addCleanup(self.connection.close)

    def ask(self, method: str, path: str, body: object = None, chunked: bool = False) -> tuple[int, bytes]:
        headers = {"Transfer-Encoding": "chunked"} if chunked else {}
        self.connection.request(method, PREFIX + path, body, headers, encode_chunked=chunked)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def test_an_answer_may_come_in_chunks_and_the_connection_goes_on(self) -> None:
        for chunks in ([b"[1,", b" 2", b"]"], [b"x" * 100_000] * 3):
            self.assertEqual(self.ask("POST", "/invocation/one/response", iter(chunks), chunked=True)[0], 202)
            self.assertEqual(self.told.settled.get(), ("one", b"".join(chunks), False))
        self.assertEqual(self.ask("GET", "/invocation/next"), (200, b'{"a": 1}'))

    def test_an_error_is_told_from_a_response(self) -> None:
        self.assertEqual(self.ask("POST", "/invocation/one/error", b"{}")[0], 202)
        self.assertEqual(self.told.settled.get(), ("one", b"{}", True))

    def test_an_answer_to_what_was_not_asked_is_refused(self) -> None:
        self.assertEqual(self.ask("POST", "/invocation/another/response", b"{}")[0], 400)

    def test_why_it_cannot_start_is_passed_on(self) -> None:
        self.assertEqual(self.ask("POST", "/init/error", b'{"errorType": "E"}')[0], 202)
        self.assertEqual(self.told.init_error, b'{"errorType": "E"}')

    def test_what_the_interface_does_not_have_is_refused(self) -> None:
        self.assertEqual(self.ask("GET", "/invocation/one/response")[0], 404)
        self.assertEqual(self.ask("POST", "/invocation/one/else", b"{}")[0], 400)
        self.assertTrue(self.told.settled.empty())


if __name__ == "__main__":
    unittest.main()
