"""``[privacy]``: what of people is shown."""

from integrationd.settings.table import Table


class PrivacySettings(Table):
    """``[privacy]``: whether phone numbers and e-mail addresses are masked where they are shown."""

    mask_personal: bool = False
