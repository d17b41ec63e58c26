"""Names of artifacts: whatever the guest calls its files, the host gets names that are safe to use."""

from __future__ import annotations

import pytest

from cloche.runtime.output import MAX_NAME_BYTES, collect_artifacts, escape_controls, safe_name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/out/plot.png", "plot.png"),
        ("/out/a/b/data.tar.gz", "data.tar.gz"),
        ("/out/Größe 1.csv", "Größe_1.csv"),
        ("/out/../../etc/passwd", "passwd"),
        ("/out/..", "file"),
        ("/out/", "file"),
        ("", "file"),
        ("/out/.bashrc", "bashrc"),
        ("/out/-rf", "rf"),
        ("/out/C:\\windows\\system.ini", "system.ini"),
        ("/out/con", "file_con"),
        ("/out/NUL.txt", "file_NUL.txt"),
        ("/out/a\0b\x1b[31m.txt", "a_b_31m.txt"),
        ("/out/evil\u202egnp.exe", "evil_gnp.exe"),
        ("/out/$(rm -rf ~);'\"&|<>.sh", "rm_-rf_.sh"),
        ("/out/ｆｕｌｌ．txt", "full.txt"),
        ("/out/a." + "e" * 30, "a_" + "e" * 30),
        ("/out/trailing. . .", "trailing"),
    ],
)
@pytest.mark.guarantee("G27")
def test_a_guests_path_becomes_one_harmless_component(path: str, name: str) -> None:
    assert safe_name(path) == name


def test_a_long_name_is_cut_between_characters_and_keeps_its_ending() -> None:
    name = safe_name("/out/" + "é" * 3000 + ".csv")

    assert name == "é" * ((MAX_NAME_BYTES - 4) // 2) + ".csv"


def test_names_are_unique_even_where_case_does_not_count() -> None:
    found = collect_artifacts((path, b"") for path in ("/out/a.txt", "/out/b/A.TXT", "/out/c/a.txt", "/out/a-2.txt"))

    assert [artifact.name for artifact in found] == ["a.txt", "A-2.TXT", "a-3.txt", "a-2-2.txt"]


@pytest.mark.parametrize(
    ("path", "mime"),
    [
        ("a.png", "image/png"),
        ("a.csv", "text/csv"),
        ("a.json", "application/json"),
        ("a.parquet", "application/vnd.apache.parquet"),
        ("a.csv.gz", "application/gzip"),
        ("a.unheard-of", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ],
)
def test_the_mime_type_follows_the_ending(path: str, mime: str) -> None:
    assert collect_artifacts([(path, b"<html>")])[0].mime == mime


def test_control_characters_are_escaped_and_text_is_not() -> None:
    assert escape_controls("Größe: 1\n\t\x1b[2J\x00\u202e\u2028\ud800\U0001f9ea") == (
        "Größe: 1\n\t\\x1b[2J\\x00\\u202e\\u2028\\ud800\U0001f9ea"
    )
    assert collect_artifacts([("/out/\x1b[2J", b"")])[0].path == "/out/\\x1b[2J"
    assert collect_artifacts([("/out/a\n\tb", b"")])[0].path == "/out/a\\n\\tb"
