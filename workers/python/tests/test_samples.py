"""The handlers of the samples, driven step by step as their templates say, without a server."""

import collections
import json
import pathlib
import sys
import unittest

from test_handlers import step

ROOT = pathlib.Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "workers/python/examples"))

import samples  # noqa: E402, F401

from tasker_worker.runner import outcome_of  # noqa: E402


class Task:
    """A task whose steps are run one by one, each with the results of all before it."""

    def __init__(self, **context):
        self.context = context
        self.results = {}

    def outcome(self, name, callable_name=None, config=None, **changes):
        """The outcome of one run of a step. The result of a success is kept."""
        handler = {"callable": callable_name or name, "initialization": config or {}}
        message = step(name, handler=handler, context=self.context, dependency_results=self.results, step_name=name)
        # Handlers may change what they are given: every message is read anew.
        outcome = outcome_of(json.loads(json.dumps({**message, **changes})))
        if "success" in outcome:
            self.results[name] = outcome["success"]["result"]
        return outcome

    def run(self, name, callable_name=None, config=None, **changes):
        """The result of a step that succeeds."""
        return self.outcome(name, callable_name, config, **changes)["success"]["result"]

    def yields(self, name, **changes):
        """The outcome that ends an attempt, after any checkpoints, and how many there were."""
        outcome, count = self.outcome(name, **changes), 0
        while "checkpoint" in outcome:
            changes, count = {**changes, "checkpoint": outcome["checkpoint"]}, count + 1
            outcome = self.outcome(name, **changes)
        return outcome, changes.get("checkpoint"), count

    def workers(self, analyzer):
        """Names and own inputs of the workers that the engine makes of an analyzer's result."""
        outcome = self.results[analyzer]["batch_processing_outcome"]
        pattern = outcome.get("worker_template_name")
        if outcome["type"] == "no_batches":
            nothing = {"batch_id": "000", "start_cursor": 0, "end_cursor": 0, "batch_size": 0}
            return pattern, {"000": {"cursor": nothing, "batch_metadata": {}, "is_no_op": True}}
        made = {
            cursor["batch_id"]: {"cursor": cursor, "batch_metadata": {}, "is_no_op": False}
            for cursor in outcome["cursor_configs"]
        }
        return pattern, made

    def work(self, analyzer, pattern):
        """Runs all workers of a batch, and says their names."""
        named, made = self.workers(analyzer)
        assert named in (pattern, None)
        for batch_id, inputs in made.items():
            self.run(f"{pattern}_{batch_id}", pattern, step_inputs=inputs)
        return [f"{pattern}_{batch_id}" for batch_id in made]


class Approval(unittest.TestCase):
    LIMITS = {"manager_from": 1000, "finance_from": 5000}

    def test_the_amount_decides_who_approves(self):
        for amount, chosen in [
            (0.01, ["auto_approve"]),
            (999.99, ["auto_approve"]),
            (1000, ["manager_approval"]),
            (4999, ["manager_approval"]),
            (5000, ["manager_approval", "finance_review"]),
            (10000, ["manager_approval", "finance_review"]),
        ]:
            task = Task(amount=amount, requester="Ada", purpose="books")
            task.run("validate_request")
            decided = task.run("routing_decision", config=self.LIMITS)
            expected = {"type": "create_steps", "step_names": chosen}
            self.assertEqual(decided["decision_point_outcome"], expected, amount)
            approvers = [task.run(name)["approver"] for name in chosen]
            self.assertEqual(task.results[chosen[-1]]["approved_amount"], amount)
            expected = {"final_status": "approved", "approval_count": len(chosen), "approvers": approvers}
            self.assertEqual(task.run("finalize_approval"), expected)

    def test_a_request_that_says_nothing_is_refused(self):
        failure = Task(amount=5, requester=" ", purpose="books").outcome("validate_request")["failure"]
        self.assertEqual((failure["error_code"], failure["retryable"]), ("validation_error", False))


class Inventory(unittest.TestCase):
    def test_a_thousand_rows_are_added_up_by_five_workers(self):
        task = Task(csv_file_path=str(ROOT / "config/templates/samples/products.csv"))
        analyzed = task.run("analyze_csv", config={"batch_size": 200})
        self.assertEqual((analyzed["total_items"], analyzed["worker_count"]), (1000, 5))
        names = task.work("analyze_csv", "process_csv_batch")
        self.assertEqual(names, [f"process_csv_batch_00{number}" for number in range(1, 6)])
        self.assertEqual([task.results[name]["processed"] for name in names], [200] * 5)
        self.assertEqual(len({task.results[name]["inventory_cents"] for name in names}), 5)
        categories = ("garden", "kitchen", "office", "sports", "toys")
        expected = {
            "processed": 1000,
            "inventory_cents": 458_741_530,
            "category_counts": dict.fromkeys(categories, 200),
            "dearest": {"title": "Bottle 10", "price_cents": 20090},
            "worker_count": 5,
        }
        self.assertEqual(task.run("aggregate_csv_results"), expected)

    def test_a_file_without_rows_has_one_worker_without_work(self):
        task = Task(csv_file_path=str(ROOT / "config/templates/samples/products_empty.csv"))
        task.run("analyze_csv", config={"batch_size": 200})
        self.assertEqual(task.work("analyze_csv", "process_csv_batch"), ["process_csv_batch_000"])
        nothing = {"processed": 0, "inventory_cents": 0, "category_counts": {}, "dearest": None, "worker_count": 0}
        self.assertEqual(task.run("aggregate_csv_results"), nothing)

    def test_a_missing_file_is_a_permanent_failure(self):
        failure = Task(csv_file_path="/nowhere.csv").outcome("analyze_csv", config={"batch_size": 200})["failure"]
        self.assertEqual((failure["error_code"], failure["retryable"]), ("file_not_found", False))


class Resumption(unittest.TestCase):
    CONFIG = {"fail_on_attempt": 1, "fail_after_items": 60, "items_per_checkpoint": 25}

    def resumed(self, keeps_checkpoint=True, **context):
        """The yields of the two attempts, how the first one failed, and what the second one says."""
        task = Task(dataset_size=100, **context)
        task.run("analyze_dataset")
        [inputs] = task.workers("analyze_dataset")[1].values()
        changes = {"callable_name": "process_range", "config": self.CONFIG, "step_inputs": inputs}
        first, checkpoint, before = task.yields("process_range_001", **changes)
        kept = checkpoint if keeps_checkpoint else None
        changes.update(attempt=2, checkpoint=kept, last_failure=first["failure"])
        second, _, after = task.yields("process_range_001", **changes)
        result = second["success"]["result"]
        self.assertEqual((result["total_processed"], result["failed_at"]), (100, 60))
        return before, after, first["failure"], (result["began_at"], result["items"])

    def test_the_next_attempt_continues_where_the_failed_one_says_that_it_was(self):
        before, after, failure, log = self.resumed()
        self.assertEqual((before, after, log), (0, 0, ({"1": 0, "2": 60}, [*range(100)])))
        self.assertEqual((failure["retryable"], failure["context"]["position"]), (True, 60))

    def test_the_next_attempt_continues_at_the_last_checkpoint_and_repeats_what_came_after_it(self):
        before, after, failure, log = self.resumed(resume_by="checkpoint")
        self.assertEqual((before, after, log), (2, 2, ({"1": 0, "2": 50}, [*range(60), *range(50, 100)])))
        self.assertTrue(failure["retryable"])

    def test_the_log_shows_that_a_checkpoint_was_lost(self):
        log = self.resumed(keeps_checkpoint=False, resume_by="checkpoint")[3]
        self.assertEqual(log, ({"1": 0, "2": 0}, [*range(60), *range(100)]))

    def test_without_data_there_are_no_batches(self):
        outcome = Task(dataset_size=0).run("analyze_dataset")["batch_processing_outcome"]
        self.assertEqual(outcome, {"type": "no_batches"})


class Checkpoints(unittest.TestCase):
    def attempts(self, **context):
        """The task with the outcome of each attempt of its worker, and the yields of all."""
        task, ended, yields, changes = Task(**context), [], 0, {"attempt": 1}
        task.run("analyze_items")
        pattern, workers = task.workers("analyze_items")
        [(batch_id, inputs)] = workers.items()
        changes = {"callable_name": "sum_items", "step_inputs": inputs, "attempt": 0}
        while not ended or ended[-1].get("failure", {}).get("retryable"):
            changes["attempt"] += 1
            outcome, changes["checkpoint"], count = task.yields(f"sum_items_{batch_id}", **changes)
            ended.append(outcome)
            yields += count
        return task, ended, yields

    def test_work_that_fails_nowhere_yields_between_its_parts(self):
        for total, each, expected in [(100, 25, 3), (50, 5, 9), (10, 20, 0), (100, 100, 0)]:
            task, ended, yields = self.attempts(total_items=total, items_per_checkpoint=each)
            self.assertEqual((len(ended), yields), (1, expected))
            sums = {"total_processed": total, "running_total": total * (total + 1) // 2, "checkpoints_used": yields}
            found = task.run("aggregate_items")
            self.assertEqual(found, {**sums, "worker_count": 1, "scenario": "with_batches"})

    def test_a_transient_failure_continues_at_the_checkpoint(self):
        task, ended, yields = self.attempts(total_items=100, items_per_checkpoint=20, fail_after_items=50)
        self.assertEqual([list(outcome) for outcome in ended], [["failure"], ["success"]])
        self.assertEqual(yields, 4)
        found = task.run("aggregate_items")
        self.assertEqual((found["total_processed"], found["running_total"]), (100, 5050))
        sums = ended[1]["success"]["result"]["batch_metadata"]
        self.assertEqual((sums["began_at"], sums["items"]), ({"1": 0, "2": 40}, [*range(100)]))

    def test_a_permanent_failure_has_no_other_attempt(self):
        context = {"total_items": 100, "items_per_checkpoint": 25, "fail_after_items": 30, "permanent_failure": True}
        _, ended, yields = self.attempts(**context)
        self.assertEqual((len(ended), yields), (1, 1))
        self.assertEqual(ended[0]["failure"]["error_type"], "permanent_error")

    def test_without_items_a_worker_without_work_is_enough(self):
        task, ended, yields = self.attempts(total_items=0)
        self.assertEqual((ended[0]["success"]["result"]["no_op"], yields), (True, 0))
        found = task.run("aggregate_items")
        zero = {"total_processed": 0, "running_total": 0, "checkpoints_used": 0}
        self.assertEqual(found, {**zero, "worker_count": 0, "scenario": "no_batches"})


class DiamondOfBatches(unittest.TestCase):
    def chosen(self, numbers):
        """The task up to its decision, and the analyzer that this chose."""
        task = Task(numbers=numbers)
        for name in ("ddb_start", "branch_evens", "branch_odds"):
            task.run(name)
        [analyzer] = task.run("ddb_routing_decision")["decision_point_outcome"]["step_names"]
        return task, analyzer

    def test_the_longer_branch_is_added_up_in_batches_of_two(self):
        for numbers, parity, expected in [
            ([2, 4, 6, 8, 10, 12], "even", {"total_processed": 6, "total_sum": 42, "batch_count": 3}),
            ([1, 3, 5, 7, 9, 11, 13, 2, 4], "odd", {"total_processed": 7, "total_sum": 49, "batch_count": 4}),
        ]:
            task, analyzer = self.chosen(numbers)
            self.assertEqual(analyzer, f"{parity}_batch_analyzer")
            task.run(analyzer, config={"batch_size": 2})
            names = task.work(analyzer, f"process_{parity}_batch")
            self.assertEqual(len(names), expected["batch_count"])
            self.assertEqual(task.run(f"aggregate_{parity}_results"), expected)

    def test_of_two_branches_that_are_as_long_the_even_one_is_chosen(self):
        self.assertEqual(self.chosen([1, 2, 3, 4])[1], "even_batch_analyzer")


class Review(unittest.TestCase):
    def test_a_person_s_result_is_what_the_next_step_goes_on_with(self):
        for review, published, reviewer in [
            ({"approved": True, "reviewer": "Ada"}, True, "Ada"),
            ({"approved": False, "reviewer": "Ada"}, False, "Ada"),
            (None, False, None),
        ]:
            task = Task(title="Notes", text="one two three")
            self.assertEqual(task.run("prepare_document"), {"title": "Notes", "words": 3})
            failure = task.outcome("human_review")["failure"]
            self.assertEqual((failure["error_code"], failure["retryable"]), ("needs_a_person", False))
            task.results["human_review"] = review
            expected = {"title": "Notes", "published": published, "reviewer": reviewer}
            self.assertEqual(task.run("publish_document"), expected)


class Ecommerce(unittest.TestCase):
    CART = [{"product_id": 1, "quantity": 2}, {"product_id": 2, "quantity": 1}]

    def paid(self, **changes):
        """The task up to its payment, and the outcome of this."""
        payment = {"method": "credit_card", "token": "tok_test_valid", "amount": 124.76, **changes}
        customer = {"email": "ada@example.com", "name": "Ada"}
        task = Task(cart_items=self.CART, customer_info=customer, payment_info=payment)
        task.run("validate_cart")
        return task, task.outcome("process_payment")

    def test_a_cart_becomes_a_confirmed_order(self):
        task, payment = self.paid()
        cart = task.results["validate_cart"]
        found = [cart[key] for key in ("subtotal", "tax", "shipping", "total")]
        self.assertEqual(found, [109.97, 8.8, 5.99, 124.76])
        self.assertEqual(payment["success"]["result"]["amount_charged"], 124.76)
        taken = [{"product_id": 1, "taken": 2}, {"product_id": 2, "taken": 1}]
        self.assertEqual(task.run("update_inventory"), {"updated_products": taken})
        order = task.run("create_order")
        self.assertEqual((order["products"], order["total"]), (2, 124.76))
        expected = {"to": "ada@example.com", "order_id": order["order_id"]}
        self.assertEqual(task.run("send_order_confirmation"), expected)

    def test_each_thing_that_goes_wrong_has_its_code(self):
        for changes, code, retryable in [
            ({"token": "tok_test_declined"}, "card_declined", False),
            ({"token": "tok_test_insufficient_funds"}, "insufficient_funds", False),
            ({"token": "tok_test_network_error"}, "gateway_unavailable", True),
            ({"amount": 124.0}, "amount_mismatch", False),
        ]:
            failure = self.paid(**changes)[1]["failure"]
            self.assertEqual((failure["error_code"], failure["retryable"]), (code, retryable))
        failure = Task(cart_items=[{"product_id": 9, "quantity": 1}]).outcome("validate_cart")["failure"]
        self.assertEqual(failure["error_code"], "unknown_product")

    def test_shipping_grows_with_the_pieces(self):
        shipping = {}
        for quantity in (4, 5, 20, 21):
            cart = [{"product_id": 3, "quantity": quantity}]
            shipping[quantity] = Task(cart_items=cart).run("validate_cart")["shipping"]
        self.assertEqual(shipping, {4: 5.99, 5: 9.99, 20: 9.99, 21: 14.99})


class Pipeline(unittest.TestCase):
    def test_three_sources_meet_in_one_set_of_figures(self):
        task = Task(pipeline_id="p")
        for name in ("extract_sales_data", "extract_inventory_data", "extract_customer_data"):
            self.assertEqual(len(task.run(name)["records"]), 5)
        self.assertEqual(task.run("transform_sales")["revenue_cents"], 309_800)
        self.assertEqual(task.run("transform_inventory"), {"pieces": 500, "reorder": ["Desk"]})
        tiers = collections.Counter(task.run("transform_customers")["by_tier"])
        self.assertEqual(tiers, {"premium": 2, "free": 2, "standard": 1})
        figures = {"revenue_cents": 309_800, "cents_per_customer": 61_960, "reorder": ["Desk"], "paying_percent": 60}
        self.assertEqual(task.run("aggregate_metrics"), figures)
        insights = ["a customer brings 61960 cents", "order Desk again"]
        self.assertEqual(task.run("generate_insights"), {"insights": insights, "health_score": 80})


class Registration(unittest.TestCase):
    def test_each_plan_has_its_billing_preferences_and_channels(self):
        for plan, billing, preferences, messages in [
            ("free", {"status": "skipped_free_plan", "monthly_cents": 0}, 2, 2),
            ("pro", {"status": "active", "monthly_cents": 2999}, 3, 2),
            ("enterprise", {"status": "active", "monthly_cents": 29999}, 4, 3),
        ]:
            task = Task(user_info={"email": "ada@example.com", "name": "Ada", "plan": plan})
            user = task.run("create_user_account")
            self.assertEqual(task.run("setup_billing_profile"), billing)
            self.assertEqual(len(task.run("initialize_preferences")["preferences"]), preferences)
            self.assertEqual(len(task.run("send_welcome_sequence")["channels"]), messages)
            expected = {"user_id": user["user_id"], "status": "active", "billing": billing["status"]}
            self.assertEqual(
                task.run("update_user_status"), {**expected, "preferences": preferences, "messages": messages}
            )

    def test_the_user_s_own_preferences_replace_those_of_the_plan(self):
        info = {"email": "ada@example.com", "name": "Ada", "preferences": {"newsletter": True, "theme": "dark"}}
        task = Task(user_info=info)
        self.assertEqual(task.run("create_user_account")["plan"], "free")
        expected = {"language": "en", "newsletter": True, "theme": "dark"}
        self.assertEqual(task.run("initialize_preferences")["preferences"], expected)

    def test_an_address_that_is_none_is_refused(self):
        failure = Task(user_info={"email": "ada", "name": "Ada"}).outcome("create_user_account")["failure"]
        self.assertEqual(failure["error_code"], "bad_email")


if __name__ == "__main__":
    unittest.main()
