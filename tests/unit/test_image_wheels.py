"""Requirements that are pinned, and wheels that may come from anybody."""

from __future__ import annotations

import hashlib
import io
import stat
import zipfile
from pathlib import Path

import pytest

from cloche.runtime.errors import ImageError
from cloche.wasm_sandbox.image import wheels
from cloche.wasm_sandbox.image.requirements import Requirement, read_requirements

NAME = "thing-1.0-py3-none-any.whl"
HASH = "0" * 64


def requirements(tmp_path: Path, text: str) -> list[Requirement]:
    path = tmp_path / "requirements.txt"
    path.write_text(text, encoding="utf-8")
    return read_requirements(path)


def wheel(tmp_path: Path, files: dict[str, bytes], name: str = NAME) -> Path:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for item, data in files.items():
            archive.writestr(item, data)
    path = tmp_path / name
    path.write_bytes(out.getvalue())
    return path


def test_pinned_lines_are_read_with_comments_and_continuations(tmp_path: Path) -> None:
    text = (
        f"# a comment\n--require-hashes\nTyping_Extensions==4.1 \\\n  --hash=sha256:{HASH} \\\n"
        f"  --hash=sha256:{'1' * 64}  # via x\n\nsix==1.17.0 --hash=sha256:{HASH}\n"
    )
    assert requirements(tmp_path, text) == [
        Requirement("typing-extensions", "4.1", frozenset({HASH, "1" * 64})),
        Requirement("six", "1.17.0", frozenset({HASH})),
    ]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("six", "only pinned packages"),
        ("six>=1.0 --hash=sha256:" + HASH, "only pinned packages"),
        ("six==1.*", "only pinned packages"),
        ("six==1.0", "has no --hash"),
        ("six==1.0 --hash=md5:00", "has no --hash"),
        ("-r other.txt", "only pinned packages"),
        ("--index-url https://example.org", "only pinned packages"),
        ("-e .", "only pinned packages"),
        ("six @ https://example.org/six.whl", "only pinned packages"),
        ("../six", "only pinned packages"),
        (f"six==1.0 --hash=sha256:{HASH} --pre", "is not supported here"),
        (f'six==1.0; python_version < "3" --hash=sha256:{HASH}', "is not supported here"),
        (f"six==1.0 --hash=sha256:{HASH}\nSIX==1.0 --hash=sha256:{HASH}", "is required twice"),
    ],
)
@pytest.mark.guarantee("G41")
def test_a_line_that_is_not_pinned_is_refused_by_name(tmp_path: Path, line: str, complaint: str) -> None:
    with pytest.raises(ImageError, match=complaint):
        requirements(tmp_path, line + "\n")


def test_a_pure_wheel_gives_its_files_without_scripts_and_compiled_ones(tmp_path: Path) -> None:
    path = wheel(
        tmp_path,
        {
            "thing/__init__.py": b"x = 1",
            "thing/data.json": b"{}",
            "thing/__pycache__/__init__.cpython-311.pyc": b"?",
            "thing-1.0.data/scripts/run": b"#!python",
            "thing-1.0.data/purelib/extra.py": b"y = 2",
            "thing-1.0.dist-info/METADATA": b"Name: thing",
        },
    )
    found = wheels.read_wheel(path)
    assert found.files == {
        "thing/__init__.py": b"x = 1",
        "thing/data.json": b"{}",
        "extra.py": b"y = 2",
        "thing-1.0.dist-info/METADATA": b"Name: thing",
    }
    assert found.top_level == {"thing", "extra"}
    assert (found.name, found.version) == ("thing", "1.0")


@pytest.mark.parametrize("name", ["thing-1.0-cp314-cp314-manylinux_2_28_x86_64.whl", "thing-1.0-cp314-abi3-any.whl"])
def test_a_native_wheel_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="native wheels cannot be baked"):
        wheels.read_wheel(wheel(tmp_path, {"thing.py": b""}, name))


@pytest.mark.parametrize("name", ["thing.py", "thing-1.0.whl", "thing-1.0-py3-none-any.zip"])
def test_a_file_without_a_wheels_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="is not the name of a wheel"):
        wheels.read_wheel(wheel(tmp_path, {"thing.py": b""}, name))


@pytest.mark.parametrize("name", ["thing/_core.so", "thing/_core.cpython-314.so.1", "thing/x.PYD", "thing/x.wasm"])
def test_compiled_code_inside_a_pure_wheel_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="has compiled code"):
        wheels.read_wheel(wheel(tmp_path, {name: b"\x7fELF"}))


@pytest.mark.parametrize(
    "name", ["../x.py", "/x.py", "a/../x.py", "a//x.py", "a\\x.py", "c:x.py", "a/./x.py", "a\x1b.py"]
)
def test_a_path_out_of_place_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="file outside its place"):
        wheels.read_wheel(wheel(tmp_path, {name: b""}))


def test_a_link_in_a_wheel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / NAME
    with zipfile.ZipFile(path, "w") as archive:
        item = zipfile.ZipInfo("thing.py")
        item.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(item, "/etc/passwd")
    with pytest.raises(ImageError, match="neither a file nor a folder"):
        wheels.read_wheel(path)


@pytest.mark.guarantee("G41")
def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = wheel(tmp_path, {"thing.py": bytes(1_000_000)})
    assert path.stat().st_size < 10_000
    with pytest.raises(ImageError, match="expands to more than"):
        wheels.read_wheel(path, budget=999_999)


def test_a_size_that_lies_is_found(tmp_path: Path) -> None:
    path = wheel(tmp_path, {"thing.py": bytes(1_000_000)})
    raw = path.read_bytes()
    path.write_bytes(raw.replace((1_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    with pytest.raises(ImageError):
        wheels.read_wheel(path)


def test_a_damaged_wheel_is_an_image_error_wherever_a_byte_is_wrong(tmp_path: Path) -> None:
    path = wheel(tmp_path, {"thing.py": b"x = 1\n" * 50, "thing-1.0.dist-info/METADATA": b"Name: thing"})
    good = path.read_bytes()
    expected = wheels.read_wheel(path).files
    for at in range(0, len(good), 3):
        path.write_bytes(good[:at] + bytes((good[at] ^ 0xFF,)) + good[at + 1 :])
        try:
            found = wheels.read_wheel(path).files
        except ImageError:
            continue
        assert sum(map(len, found.values())) <= sum(map(len, expected.values()))


def cached(tmp_path: Path, files: dict[str, bytes], name: str) -> str:
    """A wheel put where `fetch_wheels` looks first; a line that requires it."""
    made = wheel(tmp_path, files, name)
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    folder = tmp_path / "wheels" / digest
    folder.mkdir(parents=True)
    made.rename(folder / name)
    package, version = name.split("-")[:2]
    return f"{package}=={version} --hash=sha256:{digest}\n"


def fetched(tmp_path: Path, *lines: str) -> list[wheels.Wheel]:
    path = tmp_path / "requirements.txt"
    path.write_text("".join(lines), encoding="utf-8")
    return wheels.fetch_wheels(path, tmp_path / "wheels", lambda _sentence: None)


def test_cached_wheels_are_used_without_a_network_in_the_order_of_their_names(tmp_path: Path) -> None:
    second = cached(tmp_path, {"b.py": b""}, "b-2-py3-none-any.whl")
    first = cached(tmp_path, {"a.py": b""}, "a-1-py3-none-any.whl")
    assert [(w.name, w.version) for w in fetched(tmp_path, second, first)] == [("a", "1"), ("b", "2")]


def test_two_wheels_with_the_same_file_are_refused(tmp_path: Path) -> None:
    lines = [cached(tmp_path, {"same.py": name.encode()}, f"{name}-1-py3-none-any.whl") for name in "ab"]
    with pytest.raises(ImageError, match="both have same.py"):
        fetched(tmp_path, *lines)


def test_a_wheel_under_a_false_name_is_refused(tmp_path: Path) -> None:
    line = cached(tmp_path, {"a.py": b""}, "a-1-py3-none-any.whl").replace("a==1", "b==1")
    with pytest.raises(ImageError, match="is not b 1"):
        fetched(tmp_path, line)
