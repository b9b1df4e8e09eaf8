"""Signatures: what providers sign is accepted, and nothing that only looks like it."""

import base64
import datetime as dt
import hmac
import inspect
from collections.abc import Sequence

import pytest
import standardwebhooks
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from integrationd.sdk import Proof, Refusal, Verified, WebhookRequest, signatures

NOW_S = 1_771_325_101
BODY = b'{"event":"charge.success","data":{"id":302961}}'
SECRET = "sk_test_0123456789"

STANDARD_BODY = (
    b'{"type":"reward.issued","timestamp":"2026-02-17T10:45:01Z",'
    b'"data":{"customer_id":"c-9","points":50}}'
)
OLD = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
NEW = "whsec_ZWZnaGlqa2xtbm9wcXJzdHV2d3h5ent8fX5/gIGCg4Q="
OLD_SIGNATURE = "v1,Ezuo/5LIwBjswzQLRRLeVM0GyUBYs+BCq4ZjFtJhJrE="
NEW_SIGNATURE = "v1,Rvybi+duGsnMtV/FIms/hkhPL/lxVSB4A3DTBsdR8hg="
EVENT_ID = "evt_01HZX4M8Q2"

Pairs = Sequence[tuple[str, str]]


def webhook(headers: Pairs, body: bytes = BODY, now_s: float = NOW_S) -> WebhookRequest:
    return WebhookRequest(
        method="POST",
        path="",
        query={},
        headers=headers,
        body=body,
        source="203.0.113.7",
        received_at_ms=round(now_s * 1000),
    )


def refusal(proof: Proof) -> str:
    assert isinstance(proof, Refusal), proof
    assert proof.detail
    assert SECRET not in repr(proof)
    return proof.reason


# An HMAC over the raw body.


def mac(algorithm: str, secret: str = SECRET, body: bytes = BODY) -> bytes:
    return hmac.new(secret.encode(), body, algorithm).digest()


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
@pytest.mark.parametrize("prefix", ["", "sha256="])
def test_hmac_of_the_body_is_accepted_in_hex_and_base64(
    algorithm: signatures.Algorithm, prefix: str
) -> None:
    good = mac(algorithm)
    texts = {
        "hex": [good.hex(), good.hex().upper()],
        "base64": [base64.b64encode(good).decode(), base64.b64encode(good).decode().rstrip("=")],
    }

    for encoding in ("hex", "base64"):
        for text in texts[encoding]:
            proof = signatures.hmac_of_body(
                webhook([("x-signature", prefix + text)]),
                [SECRET],
                header="X-Signature",
                algorithm=algorithm,
                encoding=encoding,
                prefix=prefix,
            )
            assert proof == Verified("signature")


def test_hmac_agrees_with_a_vector_that_others_have_computed() -> None:
    body = (
        b'{"event":"customer.enrolled","timestamp":1771325101,"tenant_id":"t-12",'
        b'"data":{"customer_id":"c-9"}}'
    )
    known = "5ebe943cfe557898cca6ca3df4ac0a1e1423cd3335d089657765c043d2b5f152"

    proof = signatures.hmac_of_body(
        webhook([("x-signature", known)], body), ["plain-shared-secret"], header="X-Signature"
    )

    assert proof == Verified()


def test_hmac_agrees_with_rfc_4231() -> None:
    known = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"

    proof = signatures.hmac_of_body(
        webhook([("s", known)], b"what do ya want for nothing?"), ["Jefe"], header="s"
    )

    assert proof == Verified()


def test_either_of_two_secrets_is_good_while_one_is_replaced() -> None:
    for secret in ("old-secret", "new-secret"):
        request = webhook([("s", mac("sha256", secret).hex())])
        assert isinstance(
            signatures.hmac_of_body(request, ["new-secret", "old-secret"], header="s"), Verified
        )
        assert (
            refusal(signatures.hmac_of_body(request, ["another"], header="s")) == "signature_wrong"
        )


@pytest.mark.parametrize("secrets", [[], [""], ["", ""]])
def test_no_secret_and_an_empty_one_prove_nothing(secrets: list[str]) -> None:
    empty = webhook(
        [
            ("s", mac("sha256", "").hex()),
            ("t", f"t={NOW_S},v1={mac('sha256', '').hex()}"),
            ("u", ""),
        ]
    )

    assert refusal(signatures.hmac_of_body(empty, secrets, header="s")) == "signature_wrong"
    assert refusal(signatures.timestamped_hmac(empty, secrets, header="t")) == "signature_wrong"
    assert refusal(signatures.shared_secret(empty, secrets, header="u")) == "signature_missing"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("s", "")],
        [("s", mac("sha256").hex())] * 2,
        [("s", mac("sha256").hex()), ("s", "")],
        [("s", "0" * 5000)],
        [("other", mac("sha256").hex())],
    ],
)
def test_missing_empty_doubled_and_endless_headers_are_refused(headers: Pairs) -> None:
    request = webhook(headers)

    assert refusal(signatures.hmac_of_body(request, [SECRET], header="s")) == "signature_missing"
    assert refusal(signatures.timestamped_hmac(request, [SECRET], header="s")) == (
        "signature_missing"
    )
    assert refusal(signatures.shared_secret(request, [SECRET], header="s")) == "signature_missing"
    key = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    assert refusal(signatures.ed25519_of(request, [key], header="s", signed=BODY)) == (
        "signature_missing"
    )


@given(place=st.integers(0, len(BODY) - 1), bit=st.integers(0, 7))
def test_one_flipped_bit_of_the_body_is_refused(place: int, bit: int) -> None:
    changed = bytearray(BODY)
    changed[place] ^= 1 << bit

    proof = signatures.hmac_of_body(
        webhook([("s", mac("sha256").hex())], bytes(changed)), [SECRET], header="s"
    )

    assert refusal(proof) == "signature_wrong"


@given(st.text(max_size=200))
def test_any_text_as_a_signature_is_refused_without_an_error(text: str) -> None:
    request = webhook([("s", text)])

    for encoding in ("hex", "base64"):
        refusal(
            signatures.hmac_of_body(
                request,
                [SECRET],
                header="s",
                encoding=encoding,
            )
        )
    refusal(signatures.timestamped_hmac(request, [SECRET], header="s"))
    refusal(signatures.shared_secret(request, [SECRET], header="s"))
    key = ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32).public_key().public_bytes_raw()
    refusal(signatures.ed25519_of(request, [key], header="s", signed=BODY))


@pytest.mark.parametrize("shape", [" {}", "{} ", "0x{}", "{}\n", "{}00", "{}:"])
def test_signature_in_another_shape_is_refused(shape: str) -> None:
    request = webhook([("s", shape.format(mac("sha256").hex()))])

    assert refusal(signatures.hmac_of_body(request, [SECRET], header="s")) == "signature_wrong"


def test_signature_without_its_prefix_is_refused() -> None:
    request = webhook([("s", mac("sha256").hex())])

    proof = signatures.hmac_of_body(request, [SECRET], header="s", prefix="sha256=")

    assert refusal(proof) == "signature_wrong"


# With a time, as Stripe does it.


def stripe_like(at_s: int, *secrets: str, body: bytes = BODY) -> str:
    macs = [mac("sha256", secret, b"%d.%s" % (at_s, body)).hex() for secret in secrets]
    return ",".join([f"t={at_s}", *(f"v1={one}" for one in macs)])


def test_timestamped_hmac_is_accepted_whichever_of_its_signatures_fits() -> None:
    for header in (
        stripe_like(NOW_S, SECRET),
        stripe_like(NOW_S, "another", SECRET),
        stripe_like(NOW_S, SECRET) + ",v0=00ff",
        stripe_like(NOW_S, SECRET).replace(",", ", "),
    ):
        request = webhook([("stripe-signature", header)])
        assert (
            signatures.timestamped_hmac(request, [SECRET], header="Stripe-Signature") == Verified()
        )


@pytest.mark.parametrize(
    ("off_s", "reason"),
    [(-300, None), (300, None), (-301, "stale"), (301, "early"), (-(10**9), "stale")],
)
def test_timestamped_hmac_holds_for_five_minutes(off_s: int, reason: str | None) -> None:
    request = webhook([("s", stripe_like(NOW_S + off_s, SECRET))])

    proof = signatures.timestamped_hmac(request, [SECRET], header="s")

    if reason is None:
        assert proof == Verified()
    else:
        assert refusal(proof) == reason
        assert isinstance(proof, Refusal)
        assert proof.status == 400


@pytest.mark.parametrize(
    "header",
    [
        "t=1",
        "v1=00",
        "t=,v1=00",
        "t=-1,v1=00",
        "t=1e9,v1=00",
        "t=0x10,v1=00",
        "t=١٧٧١٣٢٥١٠١,v1=00",
        f"t={NOW_S}.0,v1=00",
        f"t={'9' * 4000},v1=00",
        stripe_like(NOW_S, SECRET).replace("v1=", "v2="),
        stripe_like(NOW_S, SECRET).replace("v1=", "V1="),
        f"t={NOW_S},{stripe_like(NOW_S, SECRET)}",
        stripe_like(NOW_S, SECRET) + ",v1=00" * 16,
        ",,,===",
    ],
)
def test_timestamped_hmac_of_another_shape_is_refused(header: str) -> None:
    refusal(signatures.timestamped_hmac(webhook([("s", header)]), [SECRET], header="s"))


def test_time_is_under_the_signature() -> None:
    later = stripe_like(NOW_S - 400, SECRET).replace(f"t={NOW_S - 400}", f"t={NOW_S}")

    proof = signatures.timestamped_hmac(webhook([("s", later)]), [SECRET], header="s")

    assert refusal(proof) == "signature_wrong"


# Standard Webhooks.


def standard(signature: str, timestamp: str = str(NOW_S), event_id: str = EVENT_ID) -> Pairs:
    return [
        ("webhook-id", event_id),
        ("webhook-timestamp", timestamp),
        ("webhook-signature", signature),
    ]


@pytest.mark.parametrize(
    ("signature", "secrets"),
    [
        (OLD_SIGNATURE, [OLD]),
        (NEW_SIGNATURE, [NEW]),
        (f"{NEW_SIGNATURE} {OLD_SIGNATURE}", [OLD]),
        (f"{NEW_SIGNATURE} {OLD_SIGNATURE}", [NEW]),
        (OLD_SIGNATURE, [NEW, OLD]),
        (f"v1a,junk v2,junk junk {OLD_SIGNATURE}", [OLD]),
    ],
)
def test_standard_webhook_agrees_with_the_worked_vectors(
    signature: str, secrets: list[str]
) -> None:
    request = webhook(standard(signature), STANDARD_BODY)

    assert signatures.standard_webhook(request, secrets) == Verified()


@given(body=st.text().map(str.encode), event_id=st.from_regex(r"[a-z0-9_]{1,30}", fullmatch=True))
def test_what_the_standardwebhooks_library_signs_is_accepted(body: bytes, event_id: str) -> None:
    at = dt.datetime.fromtimestamp(NOW_S, tz=dt.UTC)
    signature = standardwebhooks.Webhook(OLD).sign(event_id, at, body.decode())

    request = webhook(standard(signature, event_id=event_id), body)

    assert signatures.standard_webhook(request, [NEW, OLD]) == Verified()
    refusal(signatures.standard_webhook(request, [NEW]))


def test_standard_webhook_takes_the_names_of_svix() -> None:
    names = ("svix-id", "svix-timestamp", "svix-signature")
    given = [(f"svix-{name[8:]}", value) for name, value in standard(OLD_SIGNATURE)]

    proof = signatures.standard_webhook(webhook(given, STANDARD_BODY), [OLD], names=names)

    assert proof == Verified()


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (standard(NEW_SIGNATURE), "signature_wrong"),
        (standard(OLD_SIGNATURE, event_id="evt_other"), "signature_wrong"),
        (standard(OLD_SIGNATURE, str(NOW_S - 1)), "signature_wrong"),
        (standard(OLD_SIGNATURE, str(NOW_S - 301)), "stale"),
        (standard(OLD_SIGNATURE, str(NOW_S + 301)), "early"),
        (standard(OLD_SIGNATURE, "soon"), "timestamp_wrong"),
        (standard(OLD_SIGNATURE, "9" * 13), "timestamp_wrong"),
        (standard(OLD_SIGNATURE.removeprefix("v1,")), "signature_wrong"),
        (standard(OLD_SIGNATURE.replace("v1,", "v1a,")), "signature_wrong"),
        (standard(OLD_SIGNATURE.replace(",", "=")), "signature_wrong"),
        (standard("v1," + "A" * 44), "signature_wrong"),
        (standard("v1,"), "signature_wrong"),
        (standard(""), "signature_missing"),
        (standard(OLD_SIGNATURE)[1:], "signature_missing"),
        ([*standard(OLD_SIGNATURE), ("webhook-id", "x")], "signature_missing"),
        ([*standard(OLD_SIGNATURE), ("webhook-timestamp", str(NOW_S))], "signature_missing"),
    ],
)
def test_standard_webhook_of_another_shape_is_refused(headers: Pairs, reason: str) -> None:
    proof = signatures.standard_webhook(webhook(headers, STANDARD_BODY), [OLD])

    assert refusal(proof) == reason


def test_standard_webhook_of_bytes_that_are_no_text_is_refused() -> None:
    proof = signatures.standard_webhook(webhook(standard(OLD_SIGNATURE), b"\xff"), [OLD])

    assert refusal(proof) == "signature_wrong"


# A secret that is simply shown.


def test_shared_secret_is_accepted_as_it_is_and_in_no_other_way() -> None:
    for shown, is_good in (
        (SECRET, True),
        (SECRET.upper(), False),
        (SECRET[:-1], False),
        (SECRET + " ", False),
        ("é\xff", False),
    ):
        proof = signatures.shared_secret(
            webhook([("verif-hash", shown)]), ["old", SECRET], header="Verif-Hash"
        )
        assert isinstance(proof, Verified) is is_good


# Public keys.


def test_ed25519_agrees_with_rfc_8032() -> None:
    key = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )

    for text in (signature.hex(), base64.b64encode(signature).decode()):
        request = webhook([("s", text)], b"\x72")
        assert signatures.ed25519_of(request, [key], header="s", signed=b"\x72") == Verified()
        refusal(signatures.ed25519_of(request, [key], header="s", signed=b"\x73"))
        refusal(signatures.ed25519_of(request, [b"k" * 32], header="s", signed=b"\x72"))


@pytest.mark.parametrize("keys", [[], [b""], [b"short"], [b"k" * 33]])
def test_keys_that_are_none_prove_nothing(keys: list[bytes]) -> None:
    request = webhook([("s", "00" * 64)])

    refusal(signatures.ed25519_of(request, keys, header="s", signed=BODY))
    refusal(signatures.ecdsa_of(request, keys, header="s", signed=BODY))


def public(
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, encoding: serialization.Encoding
) -> bytes:
    shape = serialization.PublicFormat.SubjectPublicKeyInfo
    return private.public_key().public_bytes(encoding, shape)


def test_ecdsa_is_accepted_under_pem_and_der_keys_old_and_new() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    other = ec.generate_private_key(ec.SECP256R1())
    request = webhook(
        [("s", base64.b64encode(private.sign(BODY, ec.ECDSA(hashes.SHA256()))).decode())]
    )

    for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER):
        keys = [public(other, encoding), public(private, encoding)]
        assert signatures.ecdsa_of(request, keys, header="s", signed=BODY) == Verified()
        refusal(signatures.ecdsa_of(request, keys[:1], header="s", signed=BODY))
        refusal(signatures.ecdsa_of(request, keys, header="s", signed=BODY + b" "))


def test_key_of_another_kind_proves_nothing() -> None:
    key = public(rsa.generate_private_key(65537, 2048), serialization.Encoding.PEM)

    refusal(signatures.ecdsa_of(webhook([("s", "00")]), [key], header="s", signed=BODY))


# The address alone.


def test_address_proves_itself_only() -> None:
    request = webhook([("s", mac("sha256").hex())])

    assert refusal(signatures.by_address(request)) == "token_missing"


def test_every_comparison_of_secrets_takes_constant_time() -> None:
    """No ``==`` decides: MACs and shared secrets go through ``hmac.compare_digest``."""
    source = inspect.getsource(signatures)

    assert source.count("hmac.compare_digest(") == 2
    for line in source.splitlines():
        assert not (" == " in line and any(word in line for word in ("mac", "secret", "digest")))
