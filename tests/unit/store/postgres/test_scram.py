"""The verifier of a password, by the example of RFC 7677."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode

from cloacina.store.postgres.server.scram import scram_verifier

SALT = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
FIRST = "n=user,r=rOprNGfwEbeRWgbNEkqO"
CHALLENGE = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
LAST = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
PROOF = b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
SIGNATURE = b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
SAID = ",".join((FIRST, CHALLENGE, LAST)).encode()


def test_the_example_of_the_standard_logs_in() -> None:
    method, parameters, keys = scram_verifier("pencil", SALT).split("$")
    assert (method, parameters) == ("SCRAM-SHA-256", "4096:W22ZaJ0SNY7soEsUEjb6gQ==")
    stored, server = map(b64decode, keys.split(":"))
    # What a server does with the client's proof, and what it proves to the client.
    mask = hmac.digest(stored, SAID, "sha256")
    client = bytes(a ^ b for a, b in zip(PROOF, mask, strict=True))
    assert hashlib.sha256(client).digest() == stored
    assert hmac.digest(server, SAID, "sha256") == SIGNATURE


def test_the_same_password_is_never_told_twice() -> None:
    assert scram_verifier("pencil") != scram_verifier("pencil")
    assert "pencil" not in scram_verifier("pencil")
