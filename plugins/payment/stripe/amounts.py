"""Amounts as Stripe writes them: whole numbers of what it takes for the smallest unit.

Its idea of a currency's decimals is not ISO 4217's in a few cases.

Source: Stripe documentation, "Supported currencies", https://docs.stripe.com/currencies
(zero-decimal currencies and special cases), read 2026-11-21.
"""

from integrationd.sdk import Money

_NO_DECIMALS = frozenset(
    {
        *("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA"),
        *("PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"),
    }
)
_THREE_DECIMALS = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})
# Written with two decimals or three, of which the last must be zero.
_STEPS = {"ISK": 100, "UGX": 100} | dict.fromkeys(_THREE_DECIMALS, 10)

# Of twelve digits at most in any currency; what is longer is no amount.
_MOST = 10**15


def decimals_of(currency: str) -> int:
    """Return how many decimals Stripe gives a currency, in any case."""
    code = currency.upper()
    if code in _NO_DECIMALS:
        return 0
    return 3 if code in _THREE_DECIMALS else 2


def to_minor(money: Money) -> int:
    """Return an amount as Stripe takes it.

    Raises:
        ValueError: The currency cannot express it; the message says so to whoever asked for it.
    """
    amount = money.minor(decimals_of(money.currency))
    step = _STEPS.get(money.currency, 1)
    if amount % step:
        finest = Money.of_minor(step, money.currency, decimals_of(money.currency))
        raise ValueError(f"Stripe takes {money.currency} in steps of {finest.amount} only")
    return amount


def of_minor(amount: object, currency: object) -> Money | None:
    """Read an amount of Stripe's; None where it is none."""
    if not isinstance(amount, int) or isinstance(amount, bool) or not isinstance(currency, str):
        return None
    if abs(amount) > _MOST:
        return None
    try:
        return Money.of_minor(amount, currency, decimals_of(currency))
    except ValueError:
        return None
