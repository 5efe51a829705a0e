"""DBOS as the benchmark sees it: workflows and steps as async functions of one process, over the same PostgreSQL.

Steps run in the process of the workflow, as DBOS means it: there is no hop to a worker.
"""

import asyncio
import json
import os
import sys
from importlib.metadata import version

from dbos import DBOS

CONTEXT = {
    "order_id": "6b1f0c7e-52a1-4c58-9f3e-0d9a2a1f7b11",
    "customer": {"email": "ada@example.com", "tier": "gold"},
    "items": [{"sku": "A-100", "quantity": 2}, {"sku": "B-200", "quantity": 1}],
    "note": "leave at the door",
}


@DBOS.step()
async def work(context, _results):
    return {"order": context["order_id"], "reference": "6b1f0c7e-52a1-4c58-9f3e-0d9a2a1f7b11", "status": "done"}


@DBOS.workflow()
async def graph(steps, context):
    results = {}
    left = list(steps)
    while left:
        ready = [(name, parents) for name, parents in left if all(parent in results for parent in parents)]
        answers = await asyncio.gather(
            *(work(context, {parent: results[parent] for parent in parents}) for _, parents in ready)
        )
        results.update(zip((name for name, _ in ready), answers))
        left = [step for step in left if step[0] not in results]
    return len(results)


async def serve():
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=2**24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    handles = {}
    tasks = set()

    def say(message):
        os.write(STDOUT, (json.dumps(message) + "\n").encode())

    async def answer(message):
        try:
            if "submit" in message:
                handle = await DBOS.start_workflow_async(graph, message["submit"], CONTEXT)
                handles[handle.workflow_id] = handle
                say({"id": message["id"], "workflow": handle.workflow_id})
            else:
                await handles.pop(message["wait"]).get_result()
                say({"id": message["id"], "done": True})
        except Exception as error:
            say({"id": message["id"], "error": repr(error)})

    say({"ready": f"DBOS {version('dbos')} (Python)"})
    while line := await lines.readline():
        task = loop.create_task(answer(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


# What the library prints goes to stderr: stdout is for answers.
STDOUT = os.dup(1)
os.dup2(2, 1)
URL = os.environ["DATABASE_URL"].replace("postgres://", "postgresql://", 1)
DBOS(config={"name": "bench", "system_database_url": URL, "log_level": "WARNING"})
DBOS.launch()
asyncio.run(serve())
os._exit(0)
