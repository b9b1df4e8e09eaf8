"""The peer: a huey queue in SQLite, synced on every commit, whose task posts through urllib3.

``BENCH_HUEY_FILE`` and ``BENCH_SINK_PORT`` say where; huey's own consumer is the worker.
"""

import json
import os
from typing import Any

import urllib3
from huey import SqliteHuey

huey = SqliteHuey("bench", filename=os.environ["BENCH_HUEY_FILE"], fsync=True)
_http = urllib3.HTTPConnectionPool("127.0.0.1", int(os.environ["BENCH_SINK_PORT"]), maxsize=16)


def _deliver(payload: dict[str, Any]) -> None:
    body = json.dumps(payload["json"]).encode()
    answer = _http.request(
        "POST", payload["path"], body=body, headers={"Content-Type": "application/json"}
    )
    if answer.status != 200:
        raise RuntimeError(f"the provider answered {answer.status}")


deliver: Any = huey.task(name="deliver")(_deliver)
