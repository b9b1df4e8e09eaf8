"""What the tests of the breaker share."""

from integrationd.delivery.breaker import Breaker, BreakerPolicy, BreakerState

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
NOW_MS = 1_750_000_000_000
OPEN_MS = 60_000
DAY_MS = 86_400_000

ARROWS = {
    (CLOSED, "failure", OPEN),
    (OPEN, "time", HALF_OPEN),
    (HALF_OPEN, "failure", OPEN),
    (HALF_OPEN, "success", CLOSED),
    (OPEN, "reset", CLOSED),
    (HALF_OPEN, "reset", CLOSED),
}


def failed(breaker: Breaker, times: int = 1, now_ms: int = NOW_MS) -> Breaker:
    for _ in range(times):
        breaker = breaker.on_failure(breaker.term, now_ms)
    return breaker


def opened(policy: BreakerPolicy | None = None, now_ms: int = NOW_MS) -> Breaker:
    policy = policy or BreakerPolicy()
    return failed(Breaker(policy=policy), policy.failures, now_ms)


def probing(policy: BreakerPolicy | None = None, now_ms: int = NOW_MS) -> Breaker:
    return opened(policy, now_ms).on_start(now_ms + OPEN_MS)


def results(breaker: Breaker, outcomes: str) -> Breaker:
    """Feed results to a closed breaker: F for a failure, S for a success."""
    for outcome in outcomes:
        breaker = failed(breaker) if outcome == "F" else breaker.on_success(breaker.term)
    return breaker


def report(breaker: Breaker, end: str, term: int, now_ms: int) -> Breaker:
    match end:
        case "success":
            return breaker.on_success(term)
        case "failure":
            return breaker.on_failure(term, now_ms)
        case _:
            return breaker.on_neutral(term)
