"""Webhooks, kept durably and not, while the app and every provider are out of reach."""

from pathlib import Path

import pytest
from tests.bench import figures
from tests.bench.children import serving
from tests.bench.figures import Table, interleaved, ratios, scaled, spread
from tests.bench.load import send_webhooks
from tests.faults.daemon import DaemonProcess, free_port

pytestmark = pytest.mark.bench

KEY = "sk_test_of_the_benchmark"
MANY = 64
_TABLES = """
[log]
level = "warning"

[webhooks]
listen = "127.0.0.1:{port}"
rate_limit = "100000/s"
burst = 10000

[connections.naira]
provider = "paystack"
config = {{ secret_key = "{key}", base_url = "http://127.0.0.1:9", allow_private = true }}
"""


def test_keeping_webhooks_durably_against_keeping_nothing(tmp_path: Path, table: Table) -> None:
    port = free_port()
    with (
        DaemonProcess(tmp_path, _TABLES.format(port=port, key=KEY), anew=True) as daemon,
        serving("plain_hooks", key=KEY) as plain,
    ):
        daemon.start()
        daemon.wait_ready(60.0)
        subjects = {
            "durable": lambda: send_webhooks(port, KEY, scaled(6000), MANY),
            "plain": lambda: send_webhooks(plain, KEY, scaled(6000), MANY),
        }
        interleaved(subjects, rounds=1)
        found = interleaved(subjects)
        assert daemon.stop() == 0, daemon.output()
    durable, nothing = found["durable"], found["plain"]
    for target, name in ((figures.HOOKS, "rps"), (figures.HOOKS_P99, "p99_ms")):
        above, below = ([one[name] for one in runs] for runs in (durable, nothing))
        table.add(target, ratios(above, below))
    for label, runs in (("durably", durable), ("not at all", nothing)):
        table.note(
            f"keeping webhooks {label}: c=64 {spread(one['rps'] for one in runs)} requests/s,"
            f" p50 {spread((one['p50_ms'] for one in runs), '{:.2f}')} ms,"
            f" p99 {spread((one['p99_ms'] for one in runs), '{:.2f}')} ms"
        )
