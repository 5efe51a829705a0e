"""Overrides of the topology, and the function of each route."""

from __future__ import annotations

import unittest

from tasker_localstack import topology
from tasker_localstack.deploy import queues_of
from tasker_localstack.gateway import routes_of


class TopologyTest(unittest.TestCase):
    def test_a_value_is_set_for_what_is_named_and_for_nothing_else(self) -> None:
        read = topology.read(["queues.completions.max_receive_count=3", "worker.visibility_seconds=2"])
        self.assertEqual(read["queues"]["completions"]["max_receive_count"], 3)
        self.assertEqual(read["queues"]["readiness"], topology.read([])["queues"]["readiness"])
        self.assertEqual(queues_of(read)["worker-rust"]["visibility_seconds"], 2)

    def test_a_variable_may_be_new_and_is_one_functions(self) -> None:
        read = topology.read(["functions.completion-callback.environment.TASKER_NEW=12"])
        self.assertEqual(read["functions"]["completion-callback"]["environment"]["TASKER_NEW"], "12")
        self.assertNotIn("TASKER_NEW", read["functions"]["task-intake"]["environment"])

    def test_a_variable_of_the_common_environment_is_every_functions(self) -> None:
        read = topology.read(["orchestrator_environment.TASKER_ENV=a=b"])
        found = {function["environment"]["TASKER_ENV"] for function in read["functions"].values()}
        self.assertEqual(found, {"a=b"})

    def test_what_the_topology_does_not_have_is_refused(self) -> None:
        for wrong in ("queues.nothing.max_receive_count=1", "worker.visibility=2", "queues.intake=", "worker"):
            with self.subTest(wrong), self.assertRaises(SystemExit) as refused:
                topology.read([wrong, "queues.intake.retention=1"])
            self.assertIn("--set", str(refused.exception))

    def test_every_word_is_filled_in_and_one_that_is_not_known_is_a_fault(self) -> None:
        self.assertEqual(topology.fill("{a}-{b}/{a}", {"a": "1", "b": "2"}), "1-2/1")
        with self.assertRaises(SystemExit):
            topology.fill("{a}-{c}", {"a": "1"})


class RoutesTest(unittest.TestCase):
    def test_the_function_of_the_proxy_route_gets_every_path_that_no_other_function_has(self) -> None:
        routes = routes_of({"one": {"routes": ["POST /v1/tasks"]}, "rest": {"routes": ["ANY /{proxy+}"]}, "none": {}})
        self.assertEqual(routes["v1", "tasks"], {"POST": "one", "ANY": "rest"})
        for below in (("v1",), ("v1", "{proxy+}"), ("v1", "tasks", "{proxy+}"), ("{proxy+}",)):
            self.assertEqual(routes[below], {"ANY": "rest"}, below)

    def test_a_topology_without_a_proxy_route_is_rejected(self) -> None:
        with self.assertRaises(SystemExit):
            routes_of({"one": {"routes": ["POST /v1/tasks"]}})


if __name__ == "__main__":
    unittest.main()
