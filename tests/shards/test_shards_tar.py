from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechmill.errors import SpeechmillError
from speechmill.shards.tar import Member, TarWriter, check_name, header, header_by_tarfile, scan


def tar_of(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    writer = TarWriter(stream)
    for name, payload in members.items():
        writer.add(name, payload)
    writer.finish()
    return stream.getvalue()


def foreign(path: Path, *infos: tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> Path:
    """A TAR by another program, 700 bytes in each regular member."""
    with tarfile.open(path, "w", format=form) as tar:
        for info in infos:
            info.size = 700 if info.isreg() else 0
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    return path


@given(st.dictionaries(st.from_regex(r"\A[A-Za-z0-9_-]{1,95}\.flac\Z"), st.binary(max_size=1500), max_size=6))
def test_members_come_back_where_add_said(members: dict[str, bytes]) -> None:
    stream = io.BytesIO()
    writer = TarWriter(stream)
    places = [writer.add(name, payload) for name, payload in members.items()]
    writer.finish()
    data = stream.getvalue()
    assert len(data) == writer.position
    assert [data[place.offset : place.offset + place.size] for place in places] == list(members.values())
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        read = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    assert read == members


def test_headers_depend_on_name_and_size_alone() -> None:
    assert header("a.flac", 5) == header("a.flac", 5)
    with tarfile.open(fileobj=io.BytesIO(tar_of({"a.flac": b"12345"}))) as tar:
        info = tar.getmember("a.flac")
    assert (info.mtime, info.uid, info.gid, info.uname, info.gname, info.mode) == (0, 0, 0, "", "", 0o644)


@given(st.from_regex(r"\A[A-Za-z0-9_.-]{1,99}\Z"), st.integers(0, 2**33 - 1))
def test_headers_are_those_of_tarfile(name: str, size: int) -> None:
    assert header(name, size) == header_by_tarfile(name, size)
    assert len(header("x" * 100, 8**11 - 1)) == len(header("d/" * 20 + "x" * 90, 5)) == 512


def test_a_growing_file_is_written_back_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechmill.shards.tar._WRITE_BACK", 1000)
    with (tmp_path / "a.tar").open("wb") as stream:
        writer = TarWriter(stream)
        for number in range(20):
            writer.add(f"{number}.flac", bytes([number]) * 700)
        writer.finish()
    assert (tmp_path / "a.tar").read_bytes() == tar_of(
        {f"{number}.flac": bytes([number]) * 700 for number in range(20)}
    )


def test_scan_gives_the_members_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of({"b.flac": b"1" * 600, "a.json": b"", "c.json": b"{}"}))
    assert list(scan(path)) == [Member("b.flac", 512, 600), Member("a.json", 2048, 0), Member("c.json", 2560, 2)]
    path.write_bytes(tar_of({}))
    assert list(scan(path)) == []


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_scan_reads_the_tars_of_others(tmp_path: Path, form: int) -> None:
    path = foreign(tmp_path / "a.tar", tarfile.TarInfo("x/a.flac"), tarfile.TarInfo("x/a.json"), form=form)
    assert [(member.name, member.size) for member in scan(path)] == [("x/a.flac", 700), ("x/a.json", 700)]


@pytest.mark.parametrize("name", ["../x.flac", "a/../../x.flac", "/etc/x.flac", "..", "a\\..\\x.flac", "C:\\x.flac"])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    path = foreign(tmp_path / "a.tar", tarfile.TarInfo("a.flac"), tarfile.TarInfo(name))
    with pytest.raises(SpeechmillError, match=r"a\.tar: the member name .* leads out of the folder"):
        list(scan(path))


@pytest.mark.parametrize("name", ["a.pkl", "a.PYD", "x/a.pth", "a.audio.pickle", "a.pth.gz", "a.npy"])
def test_pickles_are_refused(tmp_path: Path, name: str) -> None:
    path = foreign(tmp_path / "a.tar", tarfile.TarInfo("a.flac"), tarfile.TarInfo(name))
    with pytest.raises(SpeechmillError, match=r"a\.tar: the member .* is a pickle .* convert it to FLAC and JSON"):
        list(scan(path))


@pytest.mark.parametrize("name", ["a.flac", "pkl.flac", "x.pkl/a.flac", "apkl.json", "..a.flac", "a..flac"])
def test_harmless_names_pass(tmp_path: Path, name: str) -> None:
    check_name(tmp_path, name)
    assert [member.name for member in scan(foreign(tmp_path / "a.tar", tarfile.TarInfo(name)))] == [name]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_folders_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("a.flac")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(SpeechmillError, match=r"a\.tar: 'a.flac/?' is no regular file"):
        list(scan(foreign(tmp_path / "a.tar", info)))


def test_a_tar_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    whole = tar_of({"a.flac": b"1" * 700, "a.json": b"2" * 30, "b.flac": b"3" * 1100})
    path = tmp_path / "a.tar"
    for length in range(0, len(whole) - 1024 + 1, 128):
        path.write_bytes(whole[:length])
        with pytest.raises(SpeechmillError, match=r"a\.tar: (cut off|not a readable TAR)"):
            list(scan(path))


def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    whole = bytearray(tar_of({"a.flac": b"1" * 700, "a.json": b"2" * 30, "b.flac": b"3" * 1100}))
    path = tmp_path / "a.tar"
    for at in (0, 1536, 2560):
        path.write_bytes(whole[:at] + b"\xff" * 300 + whole[at + 300 :])
        with pytest.raises(SpeechmillError, match=r"a\.tar: (cut off or damaged at byte|not a readable TAR)"):
            list(scan(path))


def test_what_is_no_tar_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"no TAR " * 200):
        (tmp_path / "a.tar").write_bytes(data)
        with pytest.raises(SpeechmillError, match=r"a\.tar: not a readable TAR"):
            list(scan(tmp_path / "a.tar"))
