"""Money: a decimal amount in major units with its currency; never a float."""

import dataclasses
import re
from decimal import ROUND_DOWN, Decimal, InvalidOperation
from typing import Annotated, TypeAlias

from msgspec import Meta

# The currencies whose minor unit is not a hundredth.
# Source: ISO 4217, list one, https://www.six-group.com/dam/download/financial-information/
_NO_DECIMALS = frozenset(
    {
        *("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"),
        *("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"),
    }
)
_MOST_DIGITS, _MOST_DECIMALS = 15, 12
_THREE_DECIMALS = frozenset(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"))

PositiveAmount: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^(?=.*[1-9])(0|[1-9][0-9]{0,11})(\.[0-9]{1,4})?(?!\n)$",
        description='A decimal in major units, greater than 0, for example "2500.00".',
        examples=["2500.00"],
    ),
]
CurrencyCode: TypeAlias = Annotated[
    str, Meta(pattern=r"^[A-Z]{3}(?!\n)$", description="ISO 4217, for example KES.")
]


@dataclasses.dataclass(frozen=True, slots=True)
class Money:
    """An amount of money.

    Attributes:
        amount: In major units; compares by value, so that 2500 equals 2500.00.
        currency: ISO 4217, upper case.

    Raises:
        ValueError: The amount is no finite number, or the currency is no code.
    """

    amount: Decimal
    currency: str

    def __post_init__(self) -> None:
        # A provider's number may be 1e999999999, which takes all memory as soon as it is written.
        digits, exponent = self.amount.adjusted(), self.amount.as_tuple().exponent
        if not self.amount.is_finite() or digits > _MOST_DIGITS or int(exponent) < -_MOST_DECIMALS:
            raise ValueError(f"{self.amount:.6} is no amount of money")
        if not re.fullmatch(r"[A-Z]{3}", self.currency):
            raise ValueError(f"{self.currency!r} is no currency code")

    def __str__(self) -> str:
        return f"{self.currency} {self.text}"

    @classmethod
    def of(cls, amount: str | int | float | Decimal, currency: str) -> "Money":
        """Read an amount in major units as providers write it; a float by its shortest text.

        Raises:
            ValueError: It is none.
        """
        try:
            return cls(Decimal(str(amount).strip()), currency.upper())
        except InvalidOperation as error:
            raise ValueError(f"{amount!r} is no amount of money") from error

    @classmethod
    def of_minor(cls, amount: int | str, currency: str, decimals: int | None = None) -> "Money":
        """Read an amount in minor units.

        Args:
            amount: A whole number, for example 250000 for KES 2500.00.
            currency: ISO 4217 in any case.
            decimals: Decimals of the currency where the provider has its own idea of them.

        Raises:
            ValueError: It is none.
        """
        places = decimals_of(currency) if decimals is None else decimals
        return cls(Decimal(int(amount)).scaleb(-places), currency.upper())

    @property
    def text(self) -> str:
        """The amount as contracts write it, with the currency's decimals at least."""
        places = max(decimals_of(self.currency), -int(self.amount.as_tuple().exponent))
        return f"{self.amount:.{places}f}"

    def minor(self, decimals: int | None = None) -> int:
        """Return the amount in minor units.

        Args:
            decimals: Decimals of the currency where the provider has its own idea of them.

        Raises:
            ValueError: It has more decimals than the currency.
        """
        places = decimals_of(self.currency) if decimals is None else decimals
        scaled = self.amount.scaleb(places)
        whole = scaled.to_integral_value(ROUND_DOWN)
        if whole != scaled:
            raise ValueError(f"{self.currency} has {places} decimals; {self.amount} has more")
        return int(whole)


def decimals_of(currency: str) -> int:
    """Return how many decimals a currency has."""
    code = currency.upper()
    if code in _NO_DECIMALS:
        return 0
    return 3 if code in _THREE_DECIMALS else 2
