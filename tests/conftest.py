"""What all tests share."""

import hypothesis
import pytest

# A busy machine is no fault of the code: examples have no deadline, only the whole test has one.
hypothesis.settings.register_profile(
    "gate", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("gate")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, the one backend that the daemon runs on."""
    return "asyncio"
