"""Puts jobs into the peer's queue from several threads, as an app would."""

import json
import sys
import threading
import time

from tests.bench.children import order_of
from tests.bench.huey_app import deliver
from tests.bench.load import CALL


def _produce(count: int, threads: int) -> float:
    """Return when the first job was put, by the monotonic clock."""

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
    print(json.dumps({"began_s": _produce(order["count"], order["threads"])}))
