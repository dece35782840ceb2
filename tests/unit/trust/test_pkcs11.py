"""A real PKCS#11 module, SoftHSM2: signing, custody, absence, hanging, and every refusal that a person must hear."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from agent.errors import DeviceKeyError, SignerBusyError
from agent.trust import token_library
from agent.trust.certificates import make_device_certificate, pem
from agent.trust.cms import verify_detached
from agent.trust.pin import read_pin
from agent.trust.pkcs11 import Pkcs11Signer
from agent.trust.records import CmsRecordSigner
from agent.trust.timed import TimedSigner
from agent.trust.token import REINITIALISE_S, Token, TokenAddress
from agent.trust.token_library import import_pkcs11
from tests.support.softhsm import LABEL, PIN, SoftHsm, SoftToken
from tests.unit.trust.identities import NOW, identity, new_key

MESSAGE = b'{"v":1,"seq":1}'


class Seconds:
    """A monotonic clock that is told to move."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def certify(key: ec.EllipticCurvePublicKey) -> x509.Certificate:
    root = identity()
    return make_device_certificate(key, "CAM-0001", "1", root.root_key, root.root, NOW)


@pytest.fixture
def soft(softhsm: SoftHsm) -> SoftToken:
    return softhsm.make()


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def token(soft: SoftToken, clock: Seconds) -> Token:
    return Token(soft.address, clock)


@pytest.fixture
def signer(token: Token) -> Pkcs11Signer:
    return Pkcs11Signer(token, (certify(token.generate()),))


def import_key(token: Token, **attributes: Any) -> ec.EllipticCurvePrivateKey:
    """Put a key onto the token that was made elsewhere, as some provisioning tools do."""
    pkcs11 = import_pkcs11()
    key = new_key()
    token.public_keys()  # logs in
    numbers, attribute = key.private_numbers(), pkcs11.Attribute
    session = token._opened(pkcs11, rw=True)
    common = {
        attribute.KEY_TYPE: pkcs11.KeyType.EC,
        attribute.EC_PARAMS: pkcs11.util.ec.encode_named_curve_parameters("secp256r1"),
        attribute.LABEL: LABEL,
        attribute.ID: b"import",
        attribute.TOKEN: True,
    }
    session.create_object(
        common
        | {
            attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY,
            attribute.VALUE: numbers.private_value.to_bytes(32, "big"),
            attribute.SIGN: True,
        }
        | {attribute[name]: value for name, value in attributes.items()}
    )
    token.close()
    return key


def test_openssl_verifies_what_the_token_signed(signer: Pkcs11Signer, tmp_path: Path) -> None:
    records = CmsRecordSigner(signer)
    p7s = records.sign_record(MESSAGE)
    assert verify_detached(p7s, MESSAGE, signer.chain) == signer.certificate
    (tmp_path / "record.json").write_bytes(MESSAGE)
    (tmp_path / "record.p7s").write_bytes(p7s)
    (tmp_path / "chain.pem").write_bytes(pem(signer.chain))
    (tmp_path / "root.pem").write_bytes(pem([identity().root]))
    command = (
        "openssl cms -verify -binary -inform DER -in record.p7s -content record.json -nointern -certfile chain.pem "
        "-CAfile root.pem -no-CApath -no-CAstore -out /dev/null"
    )
    result = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Verification successful" in result.stderr
    (tmp_path / "record.json").write_bytes(MESSAGE + b" ")
    assert subprocess.run(command.split(), cwd=tmp_path, capture_output=True, check=False).returncode != 0


def test_many_signatures_are_all_der(signer: Pkcs11Signer) -> None:
    """Raw r and s with leading zeros and high bits: about one in 256 each, and half of all."""
    records = CmsRecordSigner(signer)  # refuses whatever is not canonical DER
    lengths = {len(signer.sign(bytes([n % 256, n // 256]))) for n in range(600)}
    assert {70, 71, 72} <= lengths
    assert records.sign_record(MESSAGE)


def test_the_description_says_what_the_token_says_of_the_key(token: Token, soft: SoftToken) -> None:
    signer = Pkcs11Signer(token, (certify(token.generate()),))
    assert signer.description == f"pkcs11:libsofthsm2/{soft.name} (not reached yet)"
    signer.sign(MESSAGE)
    assert signer.description == f"pkcs11:libsofthsm2/{soft.name} (not exportable)"


@pytest.mark.parametrize(
    ("sensitive", "extractable", "said"),
    [
        (True, False, "not exportable, but may have been copied before"),
        (True, True, "exportable"),
        (False, False, "exportable"),
    ],
)
def test_a_key_that_was_brought_there_is_called_so(token: Token, sensitive: bool, extractable: bool, said: str) -> None:
    key = import_key(token, SENSITIVE=sensitive, EXTRACTABLE=extractable)
    signer = Pkcs11Signer(token, (certify(key.public_key()),))
    signer.sign(MESSAGE)  # the token holds no public half of it: the only key is taken, and compared
    assert signer.description.endswith(f"({said})")


def test_of_several_keys_the_certificates_is_used(token: Token) -> None:
    publics = [token.generate() for _ in range(3)]
    for public in publics:
        Pkcs11Signer(token, (certify(public),)).sign(MESSAGE)  # verifies what it signed
    found = {key.public_numbers() for key in token.public_keys()}
    assert found == {key.public_numbers() for key in publics}


def test_a_certificate_of_another_key_is_refused(token: Token) -> None:
    token.generate()
    with pytest.raises(DeviceKeyError, match=r"No key labelled.*belongs to the device certificate"):
        Pkcs11Signer(token, (identity().leaf,)).sign(MESSAGE)


def test_a_token_that_signs_with_another_key_is_found_out(token: Token) -> None:
    import_key(token, SENSITIVE=True, EXTRACTABLE=False)
    signer = Pkcs11Signer(token, (identity().leaf,))
    with pytest.raises(DeviceKeyError, match="does not fit the device certificate"):
        signer.sign(MESSAGE)
    assert signer.description.endswith("(not reached yet)")


def test_a_token_that_was_away_is_used_again(signer: Pkcs11Signer, soft: SoftToken, clock: Seconds) -> None:
    signer.sign(MESSAGE)
    with soft.away():
        for _ in range(3):
            with pytest.raises(SignerBusyError, match="check that it is there"):
                signer.sign(MESSAGE)
        assert signer.description.endswith("(not reached yet)")
    clock.now_s += REINITIALISE_S
    signer.sign(MESSAGE)
    assert signer.description.endswith("(not exportable)")


def test_a_token_that_is_away_is_not_looked_for_all_the_time(
    signer: Pkcs11Signer, soft: SoftToken, clock: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[float] = []
    real = token_library.Library.reinitialise

    def counted(self: Any) -> None:
        begun.append(clock.now_s)
        real(self)

    monkeypatch.setattr(token_library.Library, "reinitialise", counted)
    with soft.away():
        for _ in range(20):
            with pytest.raises(SignerBusyError):
                signer.sign(MESSAGE)
            clock.now_s += 1
    assert len(begun) <= 1 + 20 / REINITIALISE_S
    clock.now_s += REINITIALISE_S
    signer.sign(MESSAGE)


def test_a_token_that_is_there_only_later_is_found(soft: SoftToken, token: Token, clock: Seconds) -> None:
    certificate = certify(token.generate())
    token.close()
    late = Pkcs11Signer(Token(soft.address, clock), (certificate,))
    with soft.away(), pytest.raises(SignerBusyError):
        late.sign(MESSAGE)
    clock.now_s += REINITIALISE_S
    late.sign(MESSAGE)


def test_a_lost_session_is_opened_again_at_once(signer: Pkcs11Signer, token: Token) -> None:
    signer.sign(MESSAGE)
    token._session.close()  # what a reset of the token does to it
    signer.sign(MESSAGE)
    token_library.libraries[token.address.module_path].reinitialise()
    signer.sign(MESSAGE)


def test_a_token_that_hangs_holds_up_neither_the_caller_nor_the_interpreter(
    signer: Pkcs11Signer, soft: SoftToken
) -> None:
    timed = TimedSigner(signer, 0.2)
    timed_signature = timed.sign(MESSAGE)
    assert timed_signature
    turned, stop = threading.Event(), threading.Event()

    def turn() -> None:
        while not stop.wait(0.005):
            turned.set()

    other = threading.Thread(target=turn)
    other.start()
    with soft.hanging():
        with pytest.raises(SignerBusyError, match="did not answer within 200 ms"):
            timed.sign(MESSAGE)
        with pytest.raises(SignerBusyError, match="has not answered its last call"):
            timed.sign(MESSAGE)
        # It still hangs here, and will until the end of this block: nobody waited for it, and others have their turn.
        turned.clear()
        assert turned.wait(60)
    stop.set()
    other.join()
    deadline_s = time.monotonic() + 60
    while True:
        try:
            timed.sign(MESSAGE)
        except SignerBusyError:
            assert time.monotonic() < deadline_s, "The signer never came back."
            time.sleep(0.01)
        else:
            break
    timed.close()


def test_a_process_ends_although_the_token_hangs(soft: SoftToken, token: Token, tmp_path: Path) -> None:
    chain = tmp_path / "chain.pem"
    chain.write_bytes(pem([certify(token.generate())]))
    token.close()
    address = soft.address
    program = f"""
import sys
from pathlib import Path
from agent.errors import SignerBusyError
from agent.trust.certificates import load_chain
from agent.trust.pkcs11 import Pkcs11Signer
from agent.trust.timed import TimedSigner
from agent.trust.token import Token, TokenAddress
module, pin = Path({str(address.module_path)!r}), Path({str(address.pin_path)!r})
token = Token(TokenAddress(module, {address.token!r}, {LABEL!r}, pin))
timed = TimedSigner(Pkcs11Signer(token, load_chain(Path({str(chain)!r}))), 5)
timed.sign(b"x")
print("signed", flush=True)
sys.stdin.readline()
timed._timeout_s = 0.1
try:
    timed.sign(b"x")
except SignerBusyError:
    print("busy", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "signed\n"
        with soft.hanging():
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "busy\n"
            assert process.wait(10) == 0


def test_a_wrong_pin_is_tried_once_only(soft: SoftToken, token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = certify(token.generate())
    token.close()
    soft.address.pin_path.write_text("not-the-pin")
    signer = Pkcs11Signer(Token(soft.address), (certificate,))
    with pytest.raises(DeviceKeyError, match=r"refused the PIN.*not tried again"):
        signer.sign(MESSAGE)
    soft.address.pin_path.write_text(PIN)
    monkeypatch.setattr("agent.trust.token.read_pin", lambda _: pytest.fail("tried again"))
    with pytest.raises(DeviceKeyError, match="refused the PIN"):
        signer.sign(MESSAGE)


@pytest.mark.parametrize(
    ("flag", "said"), [("USER_PIN_LOCKED", "PIN is locked"), ("USER_PIN_FINAL_TRY", "one try left")]
)
def test_the_last_try_is_left_to_a_person(token: Token, flag: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SoftHSM2 never locks a PIN, so what a token would say is put in its mouth."""
    pkcs11 = import_pkcs11()
    real = Token._find

    class Flagged:
        def __init__(self, inner: Any) -> None:
            self._inner = inner
            self.flags = inner.flags | pkcs11.TokenFlag[flag]

        def open(self, **_: object) -> None:
            pytest.fail("logged in all the same")

    monkeypatch.setattr(Token, "_find", lambda self, library, module: Flagged(real(self, library, module)))
    with pytest.raises(DeviceKeyError, match=said):
        token.public_keys()


def test_what_is_not_there_is_said(soft: SoftToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = soft.address
    with pytest.raises(SignerBusyError, match=r'token "absent" cannot be used now.*no token labelled'):
        Token(TokenAddress(address.module_path, "absent", LABEL, address.pin_path)).public_keys()
    with pytest.raises(DeviceKeyError, match=r"PKCS#11 module .*none.so cannot be used"):
        Token(TokenAddress(tmp_path / "none.so", soft.name, LABEL, address.pin_path)).public_keys()
    (tmp_path / "text.so").write_text("no module")
    with pytest.raises(DeviceKeyError, match="cannot be used"):
        Token(TokenAddress(tmp_path / "text.so", soft.name, LABEL, address.pin_path)).public_keys()
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(DeviceKeyError, match=r"python-pkcs11, which is not installed; run `pip install"):
        Token(address).public_keys()


def test_two_tokens_of_one_name_are_told(softhsm: SoftHsm) -> None:
    one = softhsm.make("twice")
    softhsm.util("--init-token", "--free", "--label", "twice", "--pin", PIN, "--so-pin", PIN)
    with pytest.raises(DeviceKeyError, match="2 tokens labelled"):
        Token(one.address).public_keys()


def test_only_p256_certificates(token: Token) -> None:
    with pytest.raises(DeviceKeyError, match="not for a P-256 key"):
        Pkcs11Signer(token, ())


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        ("1234\n", 0o644, "has mode 0644"),
        ("1234\n", 0o440, None),  # as systemd hands a credential over; the file is root's here or the mode refused
        ("", 0o600, "in one line"),
        ("12\n34\n", 0o600, "in one line"),
        ("12 34", 0o600, "in one line"),
        ("1" * 2000, 0o600, "in one line"),
        ("1234", 0o400, None),
    ],
)
def test_the_pin_file(tmp_path: Path, content: str, mode: int, said: str | None) -> None:
    path = tmp_path / "pin"
    path.write_text(content)
    path.chmod(mode)
    if mode == 0o440 and path.stat().st_uid != 0:
        said = "has mode 0440"
    if said is None:
        assert read_pin(path) == "1234"
    else:
        with pytest.raises(DeviceKeyError, match=said):
            read_pin(path)


def test_the_pin_file_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(DeviceKeyError, match=r"cannot be opened.*key.pin_path"):
        read_pin(tmp_path / "absent")
    with pytest.raises(DeviceKeyError, match="not a regular file"):
        read_pin(tmp_path)
