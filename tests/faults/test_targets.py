"""No webhook reaches what the internet cannot, judged by connections that the kernel counts.

Spellings, redirects, names that change their mind and names that are both, and a proxy in the
environment; in a network namespace in which every connection that is let through succeeds.
"""

import subprocess
from typing import Any

import pytest
from tests.faults.namespace import run_inside, skip_without

NAMES = "DNS:*.public.test,DNS:*.first.test,DNS:*.mixed.test"
PROXY = "http://127.0.0.1:3128"


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What was sent and reached in a namespace without a way out."""
    skip_without("openssl")
    directory = tmp_path_factory.mktemp("probe")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=probe", "-addext", f"subjectAltName={NAMES}"),
            *("-keyout", str(directory / "key.pem"), "-out", str(directory / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    both = (directory / "key.pem").read_bytes() + (directory / "cert.pem").read_bytes()
    (directory / "both.pem").write_bytes(both)
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "https_proxy"), PROXY)
    environ = {**proxies, "SSL_CERT_FILE": str(directory / "cert.pem")}
    return run_inside("tests.faults.target_probe", directory, environ, timeout_s=200)


@pytest.mark.timeout(220)
def test_only_the_public_address_is_ever_connected_to(counted: dict[str, Any]) -> None:
    public = counted["spellings"] + counted["targets"]

    assert counted["reached"] == {"93.184.216.34": public}
    assert counted["opened"] == public


@pytest.mark.timeout(220)
def test_every_target_was_tried_and_refused(counted: dict[str, Any]) -> None:
    told, spellings, targets = counted["told"], counted["spellings"], counted["targets"]
    direct = {what: count for what, count in told.items() if what.startswith("direct")}

    assert spellings >= 46
    assert targets >= 46
    assert not any("Delivered" in what for what in direct)
    assert sum(direct.values()) == spellings
    assert told["redirect: Retryable http_302"] == spellings
    assert told["rebinding, first: Delivered"] == targets
    assert told["rebinding, then: Retryable target_refused"] == targets
    assert told["mixed: Retryable target_refused"] == targets


@pytest.mark.timeout(220)
def test_kernel_counts_what_is_let_through(counted: dict[str, Any]) -> None:
    assert counted["control"] == ["Delivered"] or counted["control"][0].startswith("Retryable")
    assert counted["opened_by_control"] == 1
    assert counted["reached_by_control"] == 1
