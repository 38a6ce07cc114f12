"""What the keyed masks make of a value, written a second time from docs/views.md alone, with nothing of the server's."""

import datetime
import hashlib
import hmac
import struct
import unicodedata

EPOCH = datetime.date(1970, 1, 1)
FIRST, LAST = datetime.date(1, 1, 1), datetime.date(9999, 12, 31)
NUMBERS = ("byte", "short", "integer", "long")


def hkdf(root, info):
    """32 bytes of HKDF-SHA256 (RFC 5869) without a salt."""
    extracted = hmac.new(bytes(32), root, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def base32(data, characters):
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    bits = "".join(f"{byte:08b}" for byte in data).ljust(characters * 5, "0")
    return "".join(alphabet[int(bits[at : at + 5], 2)] for at in range(0, characters * 5, 5))


def decimal(text):
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
    whole, _, fraction = digits.partition(".")
    fraction = fraction.rstrip("0")
    whole = whole.lstrip("0") or "0"
    if whole == "0" and not fraction:
        sign = ""
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


def instant(text):
    text = text.replace(" ", "T").replace("Z", "+00:00")
    at = datetime.datetime.fromisoformat(text)
    if at.tzinfo is None:
        at = at.replace(tzinfo=datetime.timezone.utc)
    return (at - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // datetime.timedelta(microseconds=1)


def canonical(kind, value):
    """The family of a type, and a value of it as text."""
    if kind == "string":
        return "text", unicodedata.normalize("NFC", value)
    if kind in NUMBERS or kind.startswith("decimal"):
        return "number", decimal(str(value))
    if kind in ("float", "double"):
        value = struct.unpack(">f", struct.pack(">f", value))[0] if kind == "float" else float(value)
        return "float", f"{0 if value == 0 else struct.unpack('>Q', struct.pack('>d', value))[0]:016x}"
    if kind == "boolean":
        return "boolean", "true" if value else "false"
    if kind == "binary":
        return "binary", value
    if kind == "date":
        return "date", str((datetime.date.fromisoformat(value) - EPOCH).days)
    return kind, str(instant(value))


def digest(keys, use, arguments, kind, value):
    """The keyed digest of a value; `keys` has `root_key`, `key_version`, `recipient` and `share`."""
    scope, domain = arguments.get("per", "recipient"), arguments["domain"]
    owner = "" if scope == "global" else keys[scope]
    info = "\x1f".join([f"weir/{use}/v1", scope, owner, str(keys["key_version"]), domain])
    family, text = canonical(kind, value)
    key = hkdf(bytes.fromhex(keys["root_key"]), info.encode())
    return hmac.new(key, "\x1f".join([domain, family, text]).encode(), hashlib.sha256).digest()


def hashed(keys, arguments, kind, value):
    return None if value is None else f"h{keys['key_version']}_" + base32(digest(keys, "pseudonym", arguments, kind, value), 26)


def days_of(keys, arguments, kind, subject):
    arguments = {"domain": "subject", **arguments}
    most = arguments.get("max_days", 182)
    number = int.from_bytes(digest(keys, "shift", arguments, kind, subject)[:8], "big") % (2 * most)
    return number - most if number < most else number - most + 1


def shifted(keys, arguments, kind, value, subject_kind, subject):
    if value is None or subject is None:
        return None
    day, time = datetime.date.fromisoformat(value[:10]), value[10:]
    most = datetime.timedelta(arguments.get("max_days", 182))
    if not FIRST + most <= day <= LAST - most:
        return None
    return (day + datetime.timedelta(days_of(keys, arguments, subject_kind, subject))).isoformat() + time
