"""The Kubernetes example, against the schemas that Kubernetes publishes."""

import pathlib
import subprocess
import sys

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "kubernetes.yaml"


def validate(path):
    return subprocess.run([sys.executable, "-m", "kubernetes_validate", "--strict", path], capture_output=True, text=True)


def test_the_kubernetes_example_is_valid():
    found = validate(EXAMPLE)
    assert found.returncode == 0, found.stdout + found.stderr
    assert (found.stdout + found.stderr).count(" passed ") == EXAMPLE.read_text().count("\nkind: ")


def test_a_misspelt_field_would_be_found(tmp_path):
    misspelt = tmp_path / "kubernetes.yaml"
    misspelt.write_text(EXAMPLE.read_text().replace("readOnlyRootFilesystem", "readOnlyRootFileSystem"))
    assert misspelt.read_text() != EXAMPLE.read_text()
    assert validate(misspelt).returncode != 0
