import threading
import unittest
from queue import SimpleQueue

from tasker_worker.pool import Pool

PATIENCE = 20


class TestPool(unittest.TestCase):
    def setUp(self):
        self.answers = SimpleQueue()

    def answer(self):
        self.answers.put(threading.current_thread().name)

    def test_an_idle_thread_is_used_again_and_a_call_that_raises_leaves_it(self):
        pool = Pool()

        def raises():
            self.answer()
            raise SystemExit("a call of a handler that ends its thread")

        names = set()
        for call in (self.answer, raises, self.answer):
            pool.submit(call)
            names.add(self.answers.get(timeout=PATIENCE))
            with_an_idle_thread(pool)
        self.assertEqual(names, {"step_0"})

    def test_a_call_that_hangs_delays_no_other_one_while_there_are_threads(self):
        pool, let_go = Pool(most=3), threading.Event()
        self.addCleanup(let_go.set)
        pool.submit(let_go.wait)
        pool.submit(let_go.wait)
        for _ in range(10):
            pool.submit(self.answer)
        self.assertEqual({self.answers.get(timeout=PATIENCE) for _ in range(10)}, {"step_2"})

    def test_calls_beyond_the_threads_wait_and_all_run(self):
        pool, together = Pool(most=4), threading.Barrier(4, timeout=PATIENCE)

        def meet():
            together.wait()
            self.answer()

        for _ in range(40):
            pool.submit(meet)
        self.assertEqual(len({self.answers.get(timeout=PATIENCE) for _ in range(40)}), 4)

    def test_a_call_without_a_thread_runs_in_a_later_one_and_then_every_call_has_one_again(self):
        pool, let_go = Pool(), threading.Event()
        self.addCleanup(let_go.set)
        pool.submit(lambda: (let_go.wait(), self.answer()))
        usual = threading.stack_size(1 << 46)
        try:
            with self.assertRaises(RuntimeError):
                pool.submit(self.answer)
        finally:
            threading.stack_size(usual)
        let_go.set()
        self.assertEqual([self.answers.get(timeout=PATIENCE) for _ in range(2)], ["step_0", "step_0"])
        # The call without a thread must not be counted as one that left a thread idle.
        with_an_idle_thread(pool)
        together = threading.Barrier(2, timeout=PATIENCE)
        for _ in range(2):
            pool.submit(lambda: (together.wait(), self.answer()))
        self.assertEqual({self.answers.get(timeout=PATIENCE) for _ in range(2)}, {"step_0", "step_1"})


def with_an_idle_thread(pool):
    """Returns once a thread of the pool waits for a call: it counts itself only after its call has returned."""
    turn = threading.Event()
    for _ in range(PATIENCE * 1000):
        with pool._lock:
            if pool._idle == 1:
                return
        turn.wait(0.001)
    raise AssertionError("no thread became idle")
