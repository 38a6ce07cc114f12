"""Tables as multisets of plain rows, so that what two readers of one table saw can be compared."""

import collections
import datetime
import decimal
import math

import numpy
import pandas
import pyarrow
import pyarrow.parquet
from deltalake import DeltaTable, QueryBuilder


def of_delta(location, storage_options=None, version=None, where="true"):
    """What deltalake reads from the table itself, deletion vectors and column mapping applied."""
    table = DeltaTable(location, storage_options=storage_options, version=version)
    batches = QueryBuilder().register("shared", table).execute(f"SELECT * FROM shared WHERE {where}").read_all()
    return of_arrow(pyarrow.table(batches))


def of_changes(location, first, last=None):
    """What deltalake reads from the table's change data feed; the commits' times are the server's to tell."""
    changes = pyarrow.table(DeltaTable(location).load_cdf(first, last))
    return of_arrow(changes.drop_columns("_commit_timestamp"))


def of_files(location):
    """What pyarrow reads from the table's Parquet files; for tables without partitions, deletion vectors and mapping."""
    return of_arrow(pyarrow.concat_tables(map(pyarrow.parquet.read_table, DeltaTable(location).file_uris())))


def of_arrow(table):
    return of_records(table.column_names, zip(*(column.to_pylist() for column in table.columns)))


def of_pandas(frame):
    return of_records(frame.columns, frame.itertuples(index=False, name=None))


def of_spark(frame):
    return of_records(frame.columns, frame.collect())


def of_records(columns, records):
    return list(columns), collections.Counter(tuple(map(plain, record)) for record in records)


def plain(value):
    """`value` without what readers legitimately disagree on: null against NaN, 1 against 1.0, and time's Python type."""
    if isinstance(value, numpy.ndarray):
        return tuple(map(plain, value.tolist()))
    if isinstance(value, numpy.datetime64):
        value = pandas.Timestamp(value)
    elif isinstance(value, numpy.generic):
        value = value.item()
    if value is None or value is pandas.NaT or value is pandas.NA:
        return None
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return int(value) if value.is_integer() else value
    if isinstance(value, decimal.Decimal):
        return ("decimal", str(value.normalize()))
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        return ("timestamp", pandas.Timestamp(value).isoformat())
    if isinstance(value, datetime.date):
        return ("date", value.isoformat())
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, dict):
        return tuple(sorted(((plain(k), plain(v)) for k, v in value.items()), key=repr))
    if hasattr(value, "asDict"):
        return plain(value.asDict())
    if isinstance(value, (list, tuple)):
        return tuple(map(plain, value))
    return value
