"""Governed views over random tables, with random columns, masks and row filters, read by the real clients; what they
should see is computed here, from the rows that were written and the documents alone (docs/views.md).

Every day tries others: the seed is printed, and WEIR_TEST_VIEW_SEED tries one again. WEIR_TEST_VIEW_CASES says how many
views are tried on each database."""

import datetime
import decimal
import os
import random

import delta_sharing
import pyarrow
import pytest
import rows
from deltalake import write_deltalake

CASES = int(os.environ.get("WEIR_TEST_VIEW_CASES", "6"))
FIRST = int(os.environ.get("WEIR_TEST_VIEW_SEED", datetime.date.today().toordinal() * 1000))
WORDS = ["gold", "silver", "", "it's", "äöü-ß", "%_x", "NULL", "0042", "a longer text that goes on"]
DAY = datetime.date(2024, 5, 19)
NOON = datetime.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=datetime.timezone.utc)

# For each type: how Arrow has it, and a value.
TYPES = {
    # As far as pandas has whole numbers beside NULL.
    "long": (pyarrow.int64(), lambda r: r.choice([r.randint(-5, 5), r.randint(-(2**52), 2**52)])),
    "integer": (pyarrow.int32(), lambda r: r.randint(0, 120)),
    "string": (pyarrow.string(), lambda r: r.choice(WORDS)),
    "boolean": (pyarrow.bool_(), lambda r: r.random() < 0.5),
    "double": (pyarrow.float64(), lambda r: r.choice([0.0, 0.5, -1.25, 1e300, float(r.randint(-9, 9))])),
    "decimal": (pyarrow.decimal128(9, 2), lambda r: decimal.Decimal(r.randint(-99999, 99999)).scaleb(-2)),
    "date": (pyarrow.date32(), lambda r: DAY + datetime.timedelta(days=r.randint(-40000, 400))),
    "timestamp": (pyarrow.timestamp("us", "UTC"), lambda r: NOON + datetime.timedelta(seconds=r.randint(-(10**8), 10**7))),
}


def truncated(value, unit):
    if unit == "year":
        value = value.replace(month=1, day=1)
    elif unit == "month":
        value = value.replace(day=1)
    elif unit == "week":
        value -= datetime.timedelta(days=value.weekday())
    return value.replace(hour=0, minute=0, second=0, microsecond=0) if isinstance(value, datetime.datetime) else value


def partial(text, first, last):
    hidden = len(text) - first - last
    return text[:first] + "*" * hidden + text[len(text) - last :] if hidden >= 3 else "REDACTED"


def bucket(value, low, high):
    return f"< {low}" if value < low else f"[{low}, {high})" if value < high else f">= {high}"


def null_stays(function):
    return lambda value: None if value is None else function(value)


def any_mask(r, kind):
    """A mask for a type, and what it makes of a value; no mask half of the time."""
    masks = [(None, lambda value: value)] * 4 + [
        ("null", lambda value: None),
        ("redact", lambda value: "REDACTED"),
        ({"redact": {"keep_nulls": True}}, null_stays(lambda value: "REDACTED")),
    ]
    if kind == "string":
        first, last = r.randint(0, 2), r.randint(1, 3)
        masks += [({"partial": {"first": first, "last": last}}, null_stays(lambda value: partial(value, first, last)))] * 2
    if kind in ("date", "timestamp"):
        unit = r.choice(["month", "week", "year"] if kind == "timestamp" else ["month", "week"])
        masks += [({"date_trunc": {"unit": unit}}, null_stays(lambda value: truncated(value, unit)))] * 2
    if kind in ("long", "integer"):
        masks += [({"constant": {"value": 7}}, lambda value: 7)]
        masks += [({"bucket": {"bounds": [0, 18]}}, null_stays(lambda value: bucket(value, 0, 18)))]
    return r.choice(masks)


def text(value):
    """A value as a row filter writes it."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, datetime.datetime):
        return f"TIMESTAMP '{value.isoformat().replace('+00:00', 'Z')}'"
    if isinstance(value, datetime.date):
        return f"DATE '{value.isoformat()}'"
    return str(value)


# A condition is its text, and what it makes of a row: True, False, or None where it is unknown.
def both(left, right):
    return False if left is False or right is False else None if left is None or right is None else True


def negated(value):
    return None if value is None else not value


def compared(name, sign, value):
    signs = {
        "=": lambda a, b: a == b,
        "<>": lambda a, b: a != b,
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
    }
    return f"{name} {sign} {text(value)}", lambda row: None if row[name] is None else signs[sign](row[name], value)


def any_condition(r, columns, depth=0):
    shape = r.random()
    if depth < 3 and shape < 0.45:
        (left, meets_left), (right, meets_right) = any_condition(r, columns, depth + 1), any_condition(r, columns, depth + 1)
        if shape < 0.2:
            return f"({left} AND {right})", lambda row: both(meets_left(row), meets_right(row))
        if shape < 0.4:
            return f"({left} OR {right})", lambda row: negated(both(negated(meets_left(row)), negated(meets_right(row))))
        return f"NOT ({left})", lambda row: negated(meets_left(row))
    name, kind = r.choice([(name, kind) for name, kind in columns.items() if kind not in ("double", "timestamp")])
    value = TYPES[kind][1]
    if shape < 0.55:
        return r.choice([(f"{name} IS NULL", lambda row: row[name] is None), (f"{name} IS NOT NULL", lambda row: row[name] is not None)])
    if kind == "boolean":
        return compared(name, "=", value(r))
    if shape < 0.7:
        values = [value(r) for _ in range(r.randint(1, 4))]
        listed = ", ".join(map(text, values))
        return f"{name} IN ({listed})", lambda row: None if row[name] is None else row[name] in values
    if shape < 0.8:
        low, high = sorted([value(r), value(r)])
        return f"{name} BETWEEN {text(low)} AND {text(high)}", lambda row: None if row[name] is None else low <= row[name] <= high
    if kind == "string":
        return compared(name, r.choice(["=", "<>"]), value(r))
    return compared(name, r.choice(["=", "<>", "<", "<=", ">", ">="]), value(r))


def some_rows(r, columns, count):
    def value(kind):
        return None if r.random() < 0.15 else TYPES[kind][1](r)

    return [{name: value(kind) for name, kind in columns.items()} for _ in range(count)]


def written(location, columns, records, **options):
    schema = pyarrow.schema([(name, TYPES[kind][0]) for name, kind in columns.items()])
    write_deltalake(location, pyarrow.Table.from_pylist(records, schema=schema), mode="append", **options)


def case(server, folder, seed):
    """Shares a random view; what a client should read from it, and where."""
    r = random.Random(seed)
    columns = {f"c{n}_{kind}": kind for n, kind in enumerate(r.choices(list(TYPES), k=r.randint(3, 8)))}
    columns |= {"part": r.choice(["string", "integer", "date"]), "id": "long"}
    location = folder / f"random_{seed}"
    # The partition column is always shown as it is: what files tell of a hidden one is tested elsewhere.
    partition = {"partition_by": ["part"]} if r.random() < 0.4 else {}
    records = []
    for _ in range(r.randint(1, 4)):
        more = some_rows(r, columns, r.randint(0, 30))
        if partition:
            # deltalake reads an empty text in a partition as NULL, as the protocol has it.
            more = [{**row, "part": None if row["part"] == "" else row["part"]} for row in more]
        if more or not records:
            written(location, columns, more, **partition)
        records += more
    shown = r.sample(list(columns), r.randint(1, len(columns)))
    if partition and "part" not in shown:
        shown.append("part")
    masks = {name: (None, lambda value: value) if name == "part" else any_mask(r, columns[name]) for name in shown}
    names = {name: r.choice([name, f"renamed_{name}"]) for name in shown}
    definition = [
        {"name": names[name], "from": name, **({"mask": masks[name][0]} if masks[name][0] is not None else {})} for name in shown
    ]
    filter_text, meets = any_condition(r, columns) if r.random() < 0.8 else (None, lambda row: True)
    table = server.share_view(f"file://{location}", f"random_{seed}", definition, filter_text)
    expected = [tuple(masks[name][1](row[name]) for name in shown) for row in records if meets(row) is True]
    return table, rows.of_records([names[name] for name in shown], expected), (definition, filter_text)


@pytest.mark.parametrize("number", range(CASES))
def test_pandas_reads_exactly_what_a_random_view_shows(server, tmp_path_factory, tables, number, request):
    # Each database has its own; the seed that is told is the one that both begin with.
    told = FIRST + number * 2
    seed = told + (1 if server.needs_migration else 0)
    print(f"WEIR_TEST_VIEW_SEED={told} WEIR_TEST_VIEW_CASES=1 tries it again on this database")
    table, expected, view = case(server, tables, seed)
    for use_delta_format in (False, True):
        read = delta_sharing.load_as_pandas(server.table_url(table), use_delta_format=use_delta_format)
        assert rows.of_pandas(read) == expected, view
    if number == 0:
        spark = request.getfixturevalue("spark")
        read = spark.read.format("deltaSharing").option("responseFormat", "delta").load(server.table_url(table))
        assert rows.of_spark(read) == expected, view
