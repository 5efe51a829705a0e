"""The Python handler that is measured: it looks at what it is given and answers about 110 bytes."""

from tasker_worker import inputs, run, step_handler


@step_handler("work")
@inputs("order_id")
def work(order_id, context):
    return {"order": order_id, "reference": context.step_uuid, "status": "done"}


if __name__ == "__main__":
    run()
