"""Tables whose features the direct writer lacks, written action by action: deletion vectors, column mapping, v2 checkpoints."""

import binascii
import json
import os
import pathlib
import struct
import uuid

import pyarrow
import pyarrow.parquet

Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def write_log(location, commits):
    log = pathlib.Path(location) / "_delta_log"
    log.mkdir(parents=True, exist_ok=True)
    for version, actions in enumerate(commits):
        lines = [json.dumps(action, separators=(",", ":")) for action in actions]
        (log / f"{version:020}.json").write_text("\n".join(lines) + "\n")


def protocol(*reader_features, writer_features=()):
    return {
        "protocol": {
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": list(reader_features),
            "writerFeatures": [*reader_features, *writer_features],
        }
    }


def field(name, type, **metadata):
    return {"name": name, "type": type, "nullable": True, "metadata": metadata}


def metadata(fields, partition_columns=(), **configuration):
    return {
        "metaData": {
            "id": str(uuid.uuid4()),
            "format": {"provider": "parquet", "options": {}},
            "schemaString": json.dumps({"type": "struct", "fields": fields}),
            "partitionColumns": list(partition_columns),
            "configuration": configuration,
            "createdTime": 1704067200000,
        }
    }


def add(location, table, path, partition_values=None, deletion_vector=None):
    """Writes `table` to `path`, unless it is there already, and answers the action that adds it."""
    file = pathlib.Path(location) / path
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(table, file)
    bounds = {"minValues": {}, "maxValues": {}, "nullCount": {}}
    for name, column in zip(table.column_names, table.columns):
        values = [value for value in column.to_pylist() if value is not None]
        bounds["nullCount"][name] = column.null_count
        if values:
            bounds["minValues"][name], bounds["maxValues"][name] = min(values), max(values)
    action = {
        "path": path,
        "partitionValues": partition_values or {},
        "size": file.stat().st_size,
        "modificationTime": 1704067200000,
        "dataChange": True,
        "stats": json.dumps({"numRecords": table.num_rows, **bounds, "tightBounds": deletion_vector is None}),
    }
    if deletion_vector:
        action["deletionVector"] = deletion_vector
    return {"add": action}


def remove(added, deletion_vector=None):
    """The action that removes what the action `added` added, with the deletion vector that it had."""
    kept = {key: added["add"][key] for key in ("path", "partitionValues", "size", "dataChange")}
    vector = {"deletionVector": deletion_vector} if deletion_vector else {}
    return {"remove": {**kept, "deletionTimestamp": 1704067200000, "extendedFileMetadata": True, **vector}}


def bitmap(rows):
    """A Roaring bitmap array of row numbers below 65536, as deletion vectors hold it."""
    values = struct.pack(f"<{len(rows)}H", *sorted(rows))
    container = struct.pack("<IIHHI", 12346, 1, 0, len(rows) - 1, 16) + values
    return struct.pack("<IQI", 1681511377, 1, 0) + container


def z85(data):
    encoded = []
    for (word,) in struct.iter_unpack(">I", data):
        encoded.extend(Z85[word // 85**power % 85] for power in (4, 3, 2, 1, 0))
    return "".join(encoded)


def vector_in_log(rows):
    data = bitmap(rows)
    text = z85(data + bytes(-len(data) % 4))
    return {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(data), "cardinality": len(rows)}


def vector_in_file(location, *vectors):
    """Several deletion vectors in one file, as writers keep them."""
    name = uuid.uuid4()
    content, described = b"\x01", []
    for rows in vectors:
        data = bitmap(rows)
        described.append(
            {
                "storageType": "u",
                "pathOrInlineDv": z85(name.bytes),
                "offset": len(content),
                "sizeInBytes": len(data),
                "cardinality": len(rows),
            }
        )
        content += struct.pack(">I", len(data)) + data + struct.pack(">I", binascii.crc32(data))
    (pathlib.Path(location) / f"deletion_vector_{name}.bin").write_bytes(content)
    return described


def numbers(start, end):
    return pyarrow.table({"id": pyarrow.array(range(start, end), pyarrow.int64()), "name": [f"row {i}" for i in range(start, end)]})


def deletion_vectors(location):
    """Rows marked as deleted by vectors in a shared file, then inside the log itself."""
    head = [
        protocol("deletionVectors", writer_features=["changeDataFeed", "invariants"]),
        metadata(
            [field("id", "long"), field("name", "string")],
            **{"delta.enableDeletionVectors": "true", "delta.enableChangeDataFeed": "true"},
        ),
    ]
    os.makedirs(location, exist_ok=True)
    first, second = (add(location, numbers(*span), f"part-{n}.parquet") for n, span in enumerate([(0, 10), (10, 20)]))
    of_first, of_second = vector_in_file(location, [3], [0, 9])
    marked = [
        add(location, numbers(*span), f"part-{n}.parquet", deletion_vector=vector)
        for n, (span, vector) in enumerate([((0, 10), of_first), ((10, 20), of_second)])
    ]
    more = vector_in_log([3, 4])
    write_log(
        location,
        [
            [*head, first, second],
            [remove(first), remove(second), *marked],
            [remove(marked[0], of_first), add(location, numbers(0, 10), "part-0.parquet", deletion_vector=more)],
            [add(location, numbers(20, 25), "part-2.parquet")],
        ],
    )


def mapped(location, mode):
    """Columns named otherwise in the files than in the table, of which one was renamed and one dropped."""
    physical = {"id": "col-1f", "name": "col-2e", "part": "col-3d", "gone": "col-4c"}
    ids = {"id": 1, "name": 2, "part": 3, "gone": 4}

    def fields(**logical):
        return [
            field(name, type, **{"delta.columnMapping.id": ids[was], "delta.columnMapping.physicalName": physical[was]})
            for name, (was, type) in logical.items()
        ]

    configuration = {
        "delta.columnMapping.mode": mode,
        "delta.columnMapping.maxColumnId": "4",
        "delta.enableChangeDataFeed": "true",
    }
    before = fields(id=("id", "long"), name=("name", "string"), part=("part", "string"), gone=("gone", "string"))
    after = fields(id=("id", "long"), label=("name", "string"), part=("part", "string"))
    created = metadata(before, ["part"], **configuration)
    altered = json.loads(json.dumps(created))
    altered["metaData"]["schemaString"] = metadata(after)["metaData"]["schemaString"]

    def batch(start, end, part):
        columns = {"id": range(start, end), "name": [f"row {i}" for i in range(start, end)], "gone": ["x"] * (end - start)}
        types = {"id": pyarrow.int64(), "name": pyarrow.string(), "gone": pyarrow.string()}
        schema = [pyarrow.field(physical[c], types[c], metadata={"PARQUET:field_id": str(ids[c])}) for c in columns]
        arrays = [pyarrow.array(values, types[c]) for c, values in columns.items()]
        table = pyarrow.Table.from_arrays(arrays, schema=pyarrow.schema(schema))
        return add(location, table, f"{start}.parquet", {physical["part"]: part})

    write_log(
        location,
        [
            [protocol("columnMapping", writer_features=["changeDataFeed"]), created, batch(0, 10, "low")],
            [batch(10, 20, "high"), batch(20, 22, None)],
            [altered],
            [batch(30, 33, "low")],
        ],
    )


def v2_checkpoint(location):
    """A checkpoint of version 3 with a sidecar, and one commit after it."""
    head = [
        protocol("v2Checkpoint", writer_features=["changeDataFeed"]),
        metadata(
            [field("id", "long"), field("name", "string")],
            **{"delta.checkpointPolicy": "v2", "delta.enableChangeDataFeed": "true"},
        ),
    ]
    adds = [add(location, numbers(n * 10, n * 10 + 10), f"part-{n}.parquet") for n in range(5)]
    write_log(location, [[*head, adds[0]], *([action] for action in adds[1:])])

    log = pathlib.Path(location) / "_delta_log"
    (log / "_sidecars").mkdir()
    sidecar = log / "_sidecars" / f"{uuid.uuid4()}.parquet"
    of_add = pyarrow.struct(
        [
            ("path", pyarrow.string()),
            ("partitionValues", pyarrow.map_(pyarrow.string(), pyarrow.string())),
            ("size", pyarrow.int64()),
            ("modificationTime", pyarrow.int64()),
            ("dataChange", pyarrow.bool_()),
            ("stats", pyarrow.string()),
        ]
    )
    values = [{**action["add"], "partitionValues": [], "dataChange": False} for action in adds[:4]]
    pyarrow.parquet.write_table(pyarrow.table({"add": pyarrow.array(values, of_add)}), sidecar)
    described = {"path": sidecar.name, "sizeInBytes": sidecar.stat().st_size, "modificationTime": 1704067200000}
    actions = [{"checkpointMetadata": {"version": 3}}, *head, {"sidecar": described}]
    text = "\n".join(json.dumps(action) for action in actions) + "\n"
    (log / f"{3:020}.checkpoint.{uuid.uuid4()}.json").write_text(text)
