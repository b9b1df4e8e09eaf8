"""The peer: a huey queue in SQLite, synced on every commit, whose task posts through urllib3.

Run as a module it is the producer: so many threads put jobs into the queue. The worker is huey's
own consumer. ``BENCH_HUEY_FILE`` and ``BENCH_SINK_PORT`` say where.
"""

import json
import os
import sys
import threading
import time
from typing import Any

import urllib3
from huey import SqliteHuey
from tests.bench.children import order_of
from tests.bench.load import CALL

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


def _produce(count: int, threads: int) -> float:
    def put() -> None:
        for _ in range(count // threads):
            deliver(CALL["payload"])

    workers = [threading.Thread(target=put) for _ in range(threads)]
    began_s = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return began_s


if __name__ == "__main__":
    order = order_of(sys.argv)
    began_s = _produce(order["count"], order["threads"])
    print(json.dumps({"began_s": began_s, "took_s": time.monotonic() - began_s}))
