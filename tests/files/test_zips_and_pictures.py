"""Zips and pictures from strangers: whole ones alone, none that is clipped, none that takes all memory or disk."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from snnconv import limits
from snnconv.files.untrusted import UntrustedFileError
from snnconv.files.zips import fingerprint, opened, read_arrays

Image = pytest.importorskip("PIL.Image")

from snnconv.files.pictures import open_rgb  # noqa: E402


def packed(path: Path, files: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


class TestZips:
    @pytest.mark.parametrize("count", [0, 1, 70_000])
    def test_whole_ones_are_opened(self, tmp_path: Path, count: int) -> None:
        path = packed(tmp_path / "a.zip", {str(i): b"" for i in range(count)}, zipfile.ZIP_STORED)
        with opened(path) as archive:
            assert len(archive.infolist()) == count

    def test_files_that_the_directory_lost_are_missed(self, tmp_path: Path) -> None:
        path = packed(tmp_path / "a.zip", {f"{i}.txt": b"x" for i in range(6)})
        content = bytearray(path.read_bytes())
        entry = -1
        for _ in range(3):
            entry = content.find(b"PK\x01\x02", entry + 1)
        content[entry + 32] = 0xFF  # the third entry's comment takes in those behind it
        path.write_bytes(content)
        with pytest.raises(UntrustedFileError, match=r"a\.zip is damaged"), opened(path):
            pass

    def test_a_name_that_is_no_text_where_the_file_begins_is_damage(self, tmp_path: Path) -> None:
        path = packed(tmp_path / "a.zip", {"é.txt": b"x" * 50})
        path.write_bytes(path.read_bytes().replace("é".encode(), b"\xcc\xd5", 1))  # not in the directory
        with pytest.raises(UntrustedFileError, match=r"a\.zip is damaged"), opened(path) as archive:
            archive.read("é.txt")

    def test_a_name_that_is_there_twice_is_refused(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("a", "1")
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr("a", "2")
        with (
            pytest.raises(UntrustedFileError, match=r"a\.zip is refused: it holds 'a' twice"),
            opened(tmp_path / "a.zip"),
        ):
            pass

    def test_a_file_without_a_name_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo("\x00"), b"x")
        with (
            pytest.raises(UntrustedFileError, match=r"a\.zip is refused: it holds a file without a name"),
            opened(path),
        ):
            pass

    def test_a_long_name_that_is_damage_is_cut(self, tmp_path: Path) -> None:
        path = packed(tmp_path / "a.zip", {"a" * 5000: b"x"})
        content = path.read_bytes()
        path.write_bytes(content.replace(b"aaa", b"bbb", 1))
        with pytest.raises(UntrustedFileError, match=r"a\.zip is damaged") as caught, opened(path) as archive:
            archive.read(archive.namelist()[0])
        assert len(str(caught.value)) < 400

    def test_what_grows_without_measure_is_refused_and_the_limit_can_be_raised(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = packed(tmp_path / "a.zip", {"zeros": bytes(2**20)})
        with opened(path):
            pass
        monkeypatch.setattr(limits, "UNPACKED", 2**19)
        with (
            pytest.raises(UntrustedFileError, match=r"would grow to 1,048,576, .* snnconv\.limits\.UNPACKED"),
            opened(path),
        ):
            pass
        monkeypatch.setattr(limits, "EXPANSION", 2000)
        with opened(path):
            pass
        np.savez_compressed(tmp_path / "a.npz", x=np.zeros(2**20))
        monkeypatch.setattr(limits, "EXPANSION", 10)
        with pytest.raises(UntrustedFileError, match=r"a\.npz is refused"):
            read_arrays(tmp_path / "a.npz")

    def test_a_changed_byte_is_told_or_does_not_matter(self, tmp_path: Path) -> None:
        files = {f"{i}.txt": bytes([i]) * 50 for i in range(4)}
        good = packed(tmp_path / "a.zip", files).read_bytes()
        refused = 0
        for place in range(len(good)):
            content = bytearray(good)
            content[place] ^= 0x55
            (tmp_path / "a.zip").write_bytes(content)
            try:
                with opened(tmp_path / "a.zip") as archive:
                    found = {entry.filename: archive.read(entry) for entry in archive.infolist()}
            except UntrustedFileError:
                refused += 1
            else:
                assert set(found.values()) == set(files.values())
        assert refused > len(good) // 3

    def test_the_fingerprint_changes_with_content_and_names_of_the_same_size(self, tmp_path: Path) -> None:
        first = fingerprint(packed(tmp_path / "a.zip", {"a": b"old"}))
        assert fingerprint(packed(tmp_path / "a.zip", {"a": b"old"})) == first
        assert fingerprint(packed(tmp_path / "a.zip", {"a": b"new"})) != first
        assert fingerprint(packed(tmp_path / "a.zip", {"b": b"old"})) != first

    @pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06"])
    def test_what_is_no_zip_is_named(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.zip").write_bytes(content)
        with pytest.raises(UntrustedFileError, match=r"a\.zip is damaged or truncated"), opened(tmp_path / "a.zip"):
            pass

    def test_an_error_of_the_block_stays_what_it_is(self, tmp_path: Path) -> None:
        path = packed(tmp_path / "a.zip", {"a": b"1"})
        for error in (ValueError("mine"), FileNotFoundError(2, "mine"), PermissionError(13, "mine")):
            with pytest.raises(type(error), match="mine"), opened(path):
                raise error


class TestArrays:
    def test_arrays_are_read(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=np.arange(3.0), y=np.arange(3))
        assert {name: value.tolist() for name, value in read_arrays(tmp_path / "a.npz").items()} == {
            "x": [0, 1, 2],
            "y": [0, 1, 2],
        }

    def test_objects_texts_and_damage_are_named(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npz"
        for array in (np.array([{}], dtype=object), np.array(["a"])):
            np.savez(path, x=array)
            with pytest.raises(
                UntrustedFileError, match=r"a\.npz: not a readable \.npz file: its array 'x' is refused"
            ):
                read_arrays(path)
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(UntrustedFileError, match=r"a\.npz: not a readable \.npz file"):
            read_arrays(path)


PHOTOMETRIC, SAMPLE_FORMAT = 262, 339


def tiff(values: np.ndarray, tags: dict[int, int]) -> bytes:
    """A grey TIFF of a strip with these values, and other tags than it has by default."""
    data = values.tobytes()
    entries = {256: values.shape[1], 257: values.shape[0], 258: values.itemsize * 8, 259: 1, PHOTOMETRIC: 1, 273: 8}
    entries |= {
        277: 1,
        278: values.shape[0],
        279: len(data),
        SAMPLE_FORMAT: 2 if values.dtype.kind == "i" else 1,
        **tags,
    }
    listed = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(entries)) + listed + bytes(4)


class TestPictures:
    def test_grey_of_16_bits_is_scaled(self, tmp_path: Path) -> None:
        values = np.array([[0, 256, 257, 1000], [20_000, 60_000, 65_278, 65_535]], np.uint16)
        (tmp_path / "a.png").write_bytes(png(values))
        for source in (tmp_path / "a.png", (tmp_path / "a.png").read_bytes()):
            found = np.asarray(open_rgb(source, "a.png"))
            assert found.shape == (2, 4, 3)
            assert found[..., 0].tolist() == [[0, 0, 1, 3], [77, 233, 254, 255]]
            assert (found == found[..., :1]).all()

    @pytest.mark.parametrize("shape", [(3, 4), (3, 4, 3), (3, 4, 4)])
    def test_8_bits_stay_as_they_are(self, shape: tuple[int, ...]) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        expected = pixels[..., :3] if len(shape) == 3 else np.repeat(pixels[..., None], 3, 2)
        assert np.array_equal(np.asarray(open_rgb(png(pixels), "a.png")), expected)

    @pytest.mark.parametrize("cut", [0, 1, 60, -200])
    def test_a_damaged_one_is_named(self, tmp_path: Path, cut: int) -> None:
        content = png(np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8))
        (tmp_path / "a.png").write_bytes(content[:cut])
        with pytest.raises(UntrustedFileError, match=r"a\.png is damaged .*; get the file again"):
            open_rgb(tmp_path / "a.png")
        with pytest.raises(FileNotFoundError):
            open_rgb(tmp_path / "b.png")

    @pytest.mark.parametrize("kind", [b"IDAT", b"IEND"])
    def test_a_png_is_what_its_checksums_say(self, kind: bytes) -> None:
        content = png(np.arange(63, dtype=np.uint16).reshape(7, 9))
        assert open_rgb(content, "a.png").size == (9, 7)
        at = content.index(kind)
        end = at + 4 + int.from_bytes(content[at - 4 : at], "big")
        wrong = bytes(255 - byte for byte in content[end : end + 4])
        with pytest.raises(UntrustedFileError, match=r"a\.png is damaged .*checksum of its"):
            open_rgb(content[:end] + wrong + content[end + 4 :], "a.png")

    def test_other_pixels_under_the_old_checksum_are_refused(self) -> None:
        one, other = (png(np.full((7, 9), value, np.uint16)) for value in (1000, 30_000))
        at, place = one.index(b"IDAT"), other.index(b"IDAT")
        size, length = (int.from_bytes(c[p - 4 : p], "big") for c, p in ((one, at), (other, place)))
        mixed = one[: at - 4] + other[place - 4 : place + 4 + length] + one[at + 4 + size :]
        with pytest.raises(UntrustedFileError, match="checksum"):
            open_rgb(mixed, "a.png")

    @pytest.mark.parametrize("left", [8, 20, 40, -4, -12])
    def test_a_cut_png_is_refused(self, left: int) -> None:
        with pytest.raises(UntrustedFileError, match=r"a\.png is damaged"):
            open_rgb(png(np.arange(63, dtype=np.uint16).reshape(7, 9))[:left], "a.png")

    @pytest.mark.parametrize(
        ("values", "tags", "reason"),
        [
            (np.array([[0, 255]], np.int32), {}, "pixels of 32 bits"),
            (np.array([[0, 255]], np.uint8), {SAMPLE_FORMAT: 2}, "pixels with a sign"),
            (np.array([[0, 255]], np.uint16), {PHOTOMETRIC: 0}, "16-bit pixels of which 0 is white"),
        ],
    )
    def test_pixels_that_would_be_taken_for_others_are_refused(
        self, tmp_path: Path, values: np.ndarray, tags: dict[int, int], reason: str
    ) -> None:
        (tmp_path / "a.tif").write_bytes(tiff(values, tags))
        with pytest.raises(UntrustedFileError, match=rf"a\.tif holds {reason}; store it with 8 or 16 bits"):
            open_rgb(tmp_path / "a.tif")

    @pytest.mark.parametrize(("kind", "white"), [(np.uint8, 1), (np.uint8, 0), (np.uint16, 1)])
    def test_grey_in_a_tiff_is_what_it_is(self, tmp_path: Path, kind: type, white: int) -> None:
        values = np.array([[0, 1, 128, 255]], np.uint8)
        stored = (values if white else 255 - values).astype(kind) * (257 if kind is np.uint16 else 1)
        (tmp_path / "a.tif").write_bytes(tiff(stored, {PHOTOMETRIC: white}))
        assert np.asarray(open_rgb(tmp_path / "a.tif"))[..., 0].tolist() == values.tolist()

    def test_floating_point_pixels_are_refused(self, tmp_path: Path) -> None:
        Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "a.tif")
        with pytest.raises(UntrustedFileError, match=r"a\.tif holds floating-point pixels"):
            open_rgb(tmp_path / "a.tif")

    def test_a_huge_one_is_refused_before_it_is_decoded_and_the_limit_can_be_raised(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = png(np.zeros((40, 50), np.uint8))
        monkeypatch.setattr(limits, "PIXELS", 1999)
        with pytest.raises(UntrustedFileError, match=r"a\.png has 50 x 40 pixels, more than snnconv\.limits\.PIXELS"):
            open_rgb(content, "a.png")
        monkeypatch.setattr(limits, "PIXELS", 2000)
        assert open_rgb(content, "a.png").size == (50, 40)


def test_a_file_that_the_directory_calls_a_folder_is_refused(tmp_path: Path) -> None:
    # torch's reader finds nothing in it, and takes zeros for the tensor; zipfile reads its content
    import torch

    from snnconv.files.untrusted import read_pickle

    path = tmp_path / "state.pt"
    torch.save({"weight": torch.ones(2)}, path)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"data/0") - len("state/") - 46  # of the directory, where the name comes after 46 bytes
    assert content[entry : entry + 4] == b"PK\x01\x02"
    content[entry + 38] |= 0x10
    path.write_bytes(content)
    with pytest.raises(UntrustedFileError, match="'state/data/0', a file with content, a folder"):
        read_pickle(path)
