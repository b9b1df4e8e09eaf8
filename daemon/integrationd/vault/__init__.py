"""The vault's cipher: secrets sealed under data keys, data keys wrapped by a master key.

Rows are the journal's. Nothing here keeps a secret, and whatever does not fit fails closed with an
error that names the row.
"""

from integrationd.vault.keyring import DataKey, Keyring
from integrationd.vault.master import MasterKey, read_master_key
from integrationd.vault.master_file import MasterFile
from integrationd.vault.parcel import ExportedSecret, pack, unpack
from integrationd.vault.sealing import Identity, new_key, seal, unseal
from integrationd.vault.source import MasterSource

__all__ = [
    "DataKey",
    "ExportedSecret",
    "Identity",
    "Keyring",
    "MasterFile",
    "MasterKey",
    "MasterSource",
    "new_key",
    "pack",
    "read_master_key",
    "seal",
    "unpack",
    "unseal",
]
