"""The digest of a preview: what an implementation of RFC 8785 that is not the server's comes to."""

import hashlib
import math
import struct

import pyarrow
import rfc8785
from deltalake import write_deltalake

# The numbers of the RFC's appendix B that tell implementations apart, and those that print differently elsewhere.
BITS = [
    0x0000000000000001, 0x7FEFFFFFFFFFFFFF, 0x4340000000000000, 0x4430000000000000, 0x44B52D02C7E14AF5, 0x44B52D02C7E14AF6,
    0x44B52D02C7E14AF7, 0x444B1AE4D6E2EF4E, 0x444B1AE4D6E2EF50, 0x3EB0C6F7A0B5ED8C, 0x3EB0C6F7A0B5ED8D, 0x41B3DE4355555553,
    0xBECBF647612F3696, 0x43143FF3C1CB0959,
]
NUMBERS = [struct.unpack(">d", bits.to_bytes(8, "big"))[0] for bits in BITS] + [0.0, -0.0, 0.1, 1e16, -1e21, math.nan, math.inf, None]
WHOLE = [0, -1, 2**53 - 1, 1 - 2**53, 2**53, 2**53 + 1, -(2**63), None]


def test_anybody_can_compute_the_digest(server, tables):
    location = tables / f"digests_{'postgres' if server.needs_migration else 'sqlite'}"
    whole = (WHOLE * 3)[: len(NUMBERS)]
    texts = ["€$\u000f\nA'B\"\\\\\"/", "\u0080\ufb33😀", None]
    table = pyarrow.table(
        {
            "id": list(range(len(NUMBERS))),
            "number": pyarrow.array(NUMBERS, pyarrow.float64()),
            "small": pyarrow.array(NUMBERS, pyarrow.float64()).cast(pyarrow.float32(), safe=False),
            "whole": pyarrow.array(whole, pyarrow.int64()),
            "text": [texts[i % 3] for i in range(len(NUMBERS))],
            "€ 😀": list(range(len(NUMBERS))),
        }
    )
    write_deltalake(location, table)
    name, response = server.register(f"file://{location}")
    assert response.ok, response.text
    columns = [{"name": column} for column in ("id", "number", "small", "whole", "text")]
    server.admin("PUT", f"/views/{location.name}", {"source": {"table": f"file.{name}"}, "columns": columns})
    preview = server.admin("POST", f"/views/{location.name}/preview", {"recipient": "partner"})
    rows = sorted(preview["evidence"]["rows"], key=lambda row: row["id"])
    assert [row["number"] for row in rows[-4:]] == [-1e21, "NaN", "Infinity", None]
    # What JSON's numbers do not hold is a text.
    shown = [value if value is None or abs(value) < 2**53 else str(value) for value in whole]
    assert [row["whole"] for row in rows] == shown
    assert preview["digest"] == hashlib.sha256(rfc8785.dumps(preview["evidence"])).hexdigest()
    assert preview["evidence"]["hidden_columns"] == ["€ 😀"]
