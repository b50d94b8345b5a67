"""A ``dataset:`` string finds its folder, file or zip, or says where to put it."""

from __future__ import annotations

import multiprocessing
import stat
import zipfile
from pathlib import Path

import pytest

from snnbench.data.roots import ORIGINS, DataRootError, resolve, resolve_config


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty SNNCONV_DATA; SNNCONV_CACHE is ``cache`` beside it."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("SNNCONV_DATA", str(folder))
    monkeypatch.setenv("SNNCONV_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("IMAGENET_ROOT", raising=False)
    return folder


@pytest.fixture
def cache(data: Path) -> Path:
    return data.parent / "cache"


def pack(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


class TestWhereItLooks:
    def test_other_strings_stay(self, data: Path) -> None:
        assert resolve("work_dirs/x") == "work_dirs/x"

    def test_folder_in_the_data_folder(self, data: Path) -> None:
        (data / "camvid/img_dir/train").mkdir(parents=True)
        assert resolve("dataset:camvid/img_dir/train") == str(data / "camvid/img_dir/train")

    def test_plain_file(self, data: Path) -> None:
        (data / "net.safetensors").write_bytes(b"x")
        assert resolve("dataset:net.safetensors") == str(data / "net.safetensors")

    def test_folder_in_the_cache(self, data: Path, cache: Path) -> None:
        (cache / "coco").mkdir(parents=True)
        assert resolve("dataset:coco") == str(cache / "coco")

    def test_data_folder_comes_before_its_zip_and_the_cache(self, data: Path, cache: Path) -> None:
        pack(data / "set.zip", {"a.txt": b"zip"})
        (cache / "set").mkdir(parents=True)
        (data / "set").mkdir()
        assert resolve("dataset:set") == str(data / "set")

    def test_imagenet_root(self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "ilsvrc/val").mkdir(parents=True)
        (data / "imagenet/val").mkdir(parents=True)
        monkeypatch.setenv("IMAGENET_ROOT", str(tmp_path / "ilsvrc"))
        assert resolve("dataset:imagenet/val") == str(tmp_path / "ilsvrc/val")

    def test_first_of_several_that_is_there(self, data: Path) -> None:
        (data / "two").mkdir()
        (data / "three").mkdir()
        assert resolve("dataset:one|two|three") == str(data / "two")

    def test_cache_without_a_data_folder(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SNNCONV_DATA")
        (cache / "coco").mkdir(parents=True)
        assert resolve("dataset:coco") == str(cache / "coco")


class TestUnpacking:
    def test_once(self, data: Path, cache: Path) -> None:
        pack(data / "camvid.zip", {"img_dir/train/1.jpg": b"1", "ann_dir/train/1.png": b"2"})
        assert resolve("dataset:camvid/img_dir/train") == str(cache / "camvid/img_dir/train")
        (cache / "camvid/img_dir/train/1.jpg").write_bytes(b"still here")
        resolve("dataset:camvid")
        assert (cache / "camvid/img_dir/train/1.jpg").read_bytes() == b"still here"

    def test_data_folder_is_only_read(self, data: Path) -> None:
        pack(data / "set.zip", {"a.txt": b"1"})
        data.chmod(stat.S_IRUSR | stat.S_IXUSR)
        try:
            resolve("dataset:set/a.txt")
            assert [path.name for path in data.iterdir()] == ["set.zip"]
        finally:
            data.chmod(stat.S_IRWXU)

    def test_top_folder_of_the_same_name_is_left_out(self, data: Path, cache: Path) -> None:
        pack(data / "bccd.zip", {"bccd/JPEGImages/1.jpg": b"1", "__MACOSX/bccd/._1": b""})
        assert resolve("dataset:bccd/JPEGImages") == str(cache / "bccd/JPEGImages")

    def test_top_folder_of_another_name_stays(self, data: Path, cache: Path) -> None:
        pack(data / "samples.zip", {"val/n01/1.jpg": b"1"})
        assert resolve("dataset:samples/val") == str(cache / "samples/val")

    def test_changed_zip_is_unpacked_again(self, data: Path, cache: Path) -> None:
        pack(data / "set.zip", {"old.txt": b"1"})
        resolve("dataset:set")
        pack(data / "set.zip", {"new.txt": b"a longer text"})
        assert resolve("dataset:set/new.txt")
        assert not (cache / "set/old.txt").exists()

    def test_a_zip_corrected_at_the_same_size_is_unpacked_again(self, data: Path, cache: Path) -> None:
        pack(data / "set.zip", {"a.txt": b"old"})
        assert Path(resolve("dataset:set/a.txt")).read_text() == "old"
        pack(data / "set.zip", {"a.txt": b"new"})
        assert Path(resolve("dataset:set/a.txt")).read_text() == "new"
        assert [path.name for path in cache.iterdir()] == ["set"]

    def test_a_zip_that_lost_files_is_refused(self, data: Path, cache: Path) -> None:
        path = pack(data / "set.zip", {f"{i}.txt": b"x" for i in range(6)})
        content = bytearray(path.read_bytes())
        at = content.find(b"PK\x01\x02", content.find(b"PK\x01\x02") + 1)
        content[at + 33] = 0xFF
        path.write_bytes(content)
        with pytest.raises(DataRootError, match=r"set\.zip is damaged: its directory lists \d of 6 files"):
            resolve("dataset:set")
        assert not (cache / "set").exists()

    def test_a_cache_that_is_a_file_is_named(self, data: Path, cache: Path) -> None:
        pack(data / "set.zip", {"a.txt": b"1"})
        cache.write_text("")
        with pytest.raises(DataRootError, match=r"set\.zip cannot be unpacked: .*cache is a file; name a folder with"):
            resolve("dataset:set")

    def test_folder_a_person_put_into_the_cache_stays(self, data: Path, cache: Path) -> None:
        pack(data / "set.zip", {"a.txt": b"1"})
        (cache / "set").mkdir(parents=True)
        (cache / "set/mine.txt").write_text("mine")
        assert resolve("dataset:set/mine.txt")

    @pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "C:/evil.txt", "..\\evil.txt"])
    def test_entry_outside_of_the_folder_is_refused(self, data: Path, cache: Path, name: str) -> None:
        pack(data / "set.zip", {"good.txt": b"1", name: b"2"})
        with pytest.raises(DataRootError, match=r"set\.zip is refused: .* points outside"):
            resolve("dataset:set")
        assert not list(data.parent.rglob("*evil*"))
        assert not (cache / "set").exists()

    def test_symbolic_link_is_refused(self, data: Path) -> None:
        with zipfile.ZipFile(data / "set.zip", "w") as archive:
            link = zipfile.ZipInfo("link")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, "/etc")
        with pytest.raises(DataRootError, match="symbolic link"):
            resolve("dataset:set")

    def test_truncated_zip_names_the_file(self, data: Path, cache: Path) -> None:
        path = pack(data / "set.zip", {"a.txt": bytes(1000)})
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(DataRootError, match=r"set\.zip is damaged or truncated .* get the file again"):
            resolve("dataset:set")
        assert not list(cache.glob("*set*tmp*"))

    def test_flipped_byte_names_the_file_and_leaves_nothing(self, data: Path, cache: Path) -> None:
        path = pack(data / "set.zip", {"a.txt": bytes(1000), "b.txt": b"b"})
        content = bytearray(path.read_bytes())
        content[500] ^= 1
        path.write_bytes(content)
        with pytest.raises(DataRootError, match=r"set\.zip is damaged"):
            resolve("dataset:set")
        assert not (cache / "set").exists()
        assert not list(cache.glob("*.tmp"))

    def test_unwritable_cache(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pack(data / "set.zip", {"a.txt": b"1"})

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "denied")

        monkeypatch.setattr("tempfile.mkdtemp", refuse)
        with pytest.raises(DataRootError, match="SNNCONV_CACHE"):
            resolve("dataset:set")

    def test_several_processes_at_once(self, data: Path, cache: Path) -> None:
        pack(data / "set.zip", {f"{i}.txt": bytes(2000) for i in range(300)})
        with multiprocessing.get_context("fork").Pool(3) as pool:
            found = pool.map(resolve, ["dataset:set/299.txt"] * 6)
        assert found == [str(cache / "set/299.txt")] * 6
        assert not list(cache.glob("*.tmp"))


class TestAbsent:
    def test_says_where_to_put_it(self, data: Path) -> None:
        with pytest.raises(DataRootError, match=r"put mine or mine\.zip in .*data \(SNNCONV_DATA\)$"):
            resolve("dataset:mine/train")

    @pytest.mark.parametrize("name", sorted(ORIGINS))
    def test_says_where_it_is_obtained(self, data: Path, name: str) -> None:
        with pytest.raises(DataRootError, match="It is obtained from http"):
            resolve(f"dataset:{name}")

    def test_imagenet_has_its_own_variable(self, data: Path) -> None:
        with pytest.raises(DataRootError, match="IMAGENET_ROOT"):
            resolve("dataset:imagenet/val")

    def test_without_a_data_folder(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SNNCONV_DATA")
        with pytest.raises(DataRootError, match=r"SNNCONV_DATA names \(it is not set\)"):
            resolve("dataset:mine")

    def test_data_folder_that_is_not_there(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SNNCONV_DATA", str(data / "gone"))
        with pytest.raises(DataRootError, match=r"SNNCONV_DATA names .*gone, which is not a folder"):
            resolve("dataset:mine")

    def test_misspelled_path_lists_what_is_there(self, data: Path) -> None:
        (data / "camvid/img_dir/train").mkdir(parents=True)
        with pytest.raises(DataRootError, match=r"has no img_dir/trian; .*img_dir holds train"):
            resolve("dataset:camvid/img_dir/trian")

    @pytest.mark.parametrize("text", ["dataset:", "dataset:../x", "dataset:/etc", "dataset:a|"])
    def test_no_name(self, data: Path, text: str) -> None:
        with pytest.raises(DataRootError, match="write dataset:NAME"):
            resolve(text)


class TestConfig:
    def test_every_string_in_place(self, data: Path) -> None:
        mmengine = pytest.importorskip("mmengine")
        (data / "a").mkdir()
        root = str(data / "a")
        config = mmengine.Config(
            {
                "one": {"data_root": "dataset:a", "other": "plain", "number": 3},
                "several": [{"path": "dataset:a"}, "dataset:a"],
                "pair": ("dataset:a", 1),
            }
        )
        inner = config.one
        resolve_config(config)
        assert inner.data_root == config.one.data_root == root
        assert config.several == [{"path": root}, root]
        assert tuple(config.pair) == (root, 1)
        assert config.one.other == "plain"
        assert config.one.number == 3

    def test_absent_data_set(self, data: Path) -> None:
        with pytest.raises(DataRootError, match="mine"):
            resolve_config({"root": ["dataset:mine"]})


@pytest.mark.parametrize("path", ["camvid/img_dir/train", "bccd/JPEGImages"])
def test_zips_of_the_data_folder(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("SNNCONV_CACHE", str(tmp_path))
    name = path.split("/")[0]
    if not (data_folder / name).exists() and not (data_folder / f"{name}.zip").exists():
        pytest.skip(f"{name} is not in SNNCONV_DATA")
    assert any(Path(resolve(f"dataset:{path}")).iterdir())
