"""Payload codecs: what users give as ``Runner(payloads=...)``; see `docs/how-to/payloads.md`."""

from cloacina.store.payloads.checksum import Checksum
from cloacina.store.payloads.codec import PayloadCodec
from cloacina.store.payloads.compression import Compression
from cloacina.store.payloads.encryption import Encryption
from cloacina.store.payloads.offload import Offload
from cloacina.store.payloads.payloads import Payloads
from cloacina.store.payloads.place import PayloadHome, PayloadPlace

__all__ = [
    "Checksum",
    "Compression",
    "Encryption",
    "Offload",
    "PayloadCodec",
    "PayloadHome",
    "PayloadPlace",
    "Payloads",
]
