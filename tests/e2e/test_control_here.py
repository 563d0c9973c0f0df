"""Remote control of a worker by its own process, over the broker that lives in it."""

import json

from support.process import python

SCENARIO = """
import json, sys, threading
import controlled
from taskcore.worker.boot import WorkerOptions, boot

app = controlled.app
app.conf.update(broker_url="memory://here", result_backend="memory://here")

def ask():
    found = {}
    try:
        control = app.control
        def one(command, **arguments):
            [reply] = control.broadcast(command, arguments, reply=True, limit=1, timeout=20)
            [(node, answer)] = reply.items()
            return answer
        inspect = control.inspect(limit=1, timeout=20)
        found["node"] = list(inspect.ping())
        call = app.tasks["controlled.hold"].delay("gate")
        while not inspect.active()[found["node"][0]]:
            pass
        found["active"] = inspect.query_task(call.id)[found["node"][0]][call.id][0]
        found["registered"] = list(inspect.registered().values())[0]
        found["limits"] = [one("rate_limit", task_name=name, rate_limit=rate)
                           for name, rate in [("controlled.add", "5/m"), ("other", 1), ("controlled.add", "x")]]
        found["limited"] = list(inspect.registered().values())[0]
        found["unknown"] = one("nothing")
        found["own"] = one("greet", who="you"), one("fail_loudly")
        found["nobody"] = control.ping(destination=["other@host"], timeout=0.1)
        found["everybody"] = control.ping(pattern="taskcore@*", limit=1, timeout=20)
        open("gate", "w").close()
        call.get(timeout=20)
        found["total"] = list(inspect.stats().values())[0]["total"]
    finally:
        control.shutdown()
        print(json.dumps(found))

app.scenario = lambda: threading.Thread(target=ask).start()
sys.exit(boot(app, WorkerOptions(pool="threads", concurrency=1, hostname="taskcore@here")))
"""


def test_a_worker_answers_while_it_is_busy(tmp_path: object) -> None:
    from support.site import APPS

    found = json.loads(python(SCENARIO, cwd=str(tmp_path), env={"PYTHONPATH": str(APPS)}))
    assert found == {
        "node": ["taskcore@here"],
        "active": "active",
        "registered": ["controlled.add [rate_limit=100/s]", "controlled.hold", "controlled.late"],
        "limits": [
            {"ok": "new rate limit set successfully"},
            {"error": "unknown task"},
            {
                "error": "Invalid rate limit string: "
                "ValueError(\"could not convert string to float: 'x'\")"
            },
        ],
        "limited": ["controlled.add [rate_limit=5/m]", "controlled.hold", "controlled.late"],
        "unknown": {"error": "KeyError('nothing')"},
        "own": [
            {"ok": "taskcore@here greets you 1 times"},
            {"error": "ValueError('on purpose')"},
        ],
        "nobody": [],
        "everybody": [{"taskcore@here": {"ok": "pong"}}],
        "total": {"controlled.hold": 1},
    }
