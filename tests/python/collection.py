"""The folder WEIR_TEST_TABLES names: Delta tables that other writers left behind. What is not read in full is listed here."""

import os
import pathlib

ROOT = pathlib.Path(os.environ["WEIR_TEST_TABLES"]).resolve() if os.environ.get("WEIR_TEST_TABLES") else None
TABLES = sorted(path.name for path in ROOT.iterdir() if path.is_dir()) if ROOT else []

# The collection has only their logs; the file lists are compared.
WITHOUT_DATA_FILES = {
    "checkpoint_with_partitions",
    "latest_not_checkpointed",
    "spark-variant-stable-feature-checkpoint",
    "with_checkpoint_no_last_checkpoint",
}
# Their logs are not what the Delta protocol allows, or newer than any reader; to be refused with the reason.
REFUSED = {"simple_table_features"}
# Deletion vectors in use or column mapping: to be refused in parquet format, whose files would show too much or misname it.
NEED_DELTA_FORMAT = {
    "cdf-table-with-cdc-and-dvs",
    "table-with-dv-small",
    "table_with_column_mapping",
    "table_with_deletion_logs",
    "table_with_partitioning_mapping",
}
# Timestamps in the old INT96 type beyond what pyarrow's nanoseconds hold: the client wraps them around in parquet format,
# exactly as pyarrow does with the files themselves.
BEYOND_PYARROW = {"table_with_edge_timestamps"}
READABLE = [name for name in TABLES if name not in WITHOUT_DATA_FILES | REFUSED]
