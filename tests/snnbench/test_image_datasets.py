"""Images in memory and in class folders: batches, order, labels, augmentation, damaged files."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

pytest.importorskip("mmengine")
from mmengine.dataset import DefaultSampler, pseudo_collate
from mmengine.runner import Runner

from snnbench.data.augment import (
    BatchAutoAugment,
    BatchColorJitter,
    BatchCutMix,
    BatchCutout,
    BatchFlip,
    BatchMixUp,
    BatchRandomCrop,
    OneImage,
)
from snnbench.data.image_datasets import SKIPPED, ImageFolder, InMemoryImages
from snnbench.data.images import load_images
from snnbench.data.roots import DataError
from snnbench.tasks.classification import ImagePreprocessor
from snnbench.weights.pretrained import PretrainedTransform
from snnconv.files.untrusted import read_safetensors


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNNCONV_CACHE", str(tmp_path / "cache"))


def write_images(root: Path, classes: tuple[str, ...] = ("ant", "bee"), count: int = 6, size: int = 12) -> Path:
    """``count`` noise images a class; the first pixel is 10 × class + number."""
    generator = np.random.default_rng(0)
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
            pixels[0, 0] = 10 * label + number
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "insects")


class TestRoots:
    def test_folder_split_folder_and_zip_give_the_same(self, tmp_path: Path, folder: Path) -> None:
        write_images(tmp_path / "split/test")
        with zipfile.ZipFile(tmp_path / "insects_test.zip", "w") as archive:
            for path in folder.glob("*/*"):
                archive.write(path, path.relative_to(folder))
        plain = load_images(folder, "test")
        assert plain.classes == ("ant", "bee")
        assert plain.labels.tolist() == [0] * 6 + [1] * 6
        for root in (tmp_path / "split", tmp_path / "insects_test.zip"):
            other = load_images(root, "test")
            assert torch.equal(other.images, plain.images)
            assert torch.equal(other.labels, plain.labels)

    def test_second_call_reads_the_cache_and_changed_files_are_read_again(self, folder: Path, monkeypatch) -> None:
        first = load_images(folder, "test")
        with monkeypatch.context() as patch:
            patch.setattr("snnbench.data.images._decode", lambda *_: pytest.fail("decoded twice"))
            assert torch.equal(load_images(folder, "test").images, first.images)
            assert load_images(folder, "test").classes == first.classes
        Image.new("RGB", (12, 12)).save(folder / "ant/new.png")
        assert len(load_images(folder, "test")) == 13

    def test_a_picture_corrected_at_the_same_size_that_keeps_its_time_is_read_again(self, folder: Path) -> None:
        path = folder / "ant/0.png"
        Image.new("RGB", (12, 12)).save(path, compress_level=0)
        assert int(load_images(folder, "test").images[0].max()) == 0
        before = path.stat()
        Image.new("RGB", (12, 12), (200, 200, 200)).save(path, compress_level=0)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size == before.st_size
        assert int(load_images(folder, "test").images[0].max()) == 200

    def test_a_zip_corrected_at_the_same_size_is_decoded_again(self, tmp_path: Path, folder: Path) -> None:
        def packed(names: list[str]) -> Path:
            with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
                for name in names:
                    archive.writestr(zipfile.ZipInfo(name), (folder / "ant/0.png").read_bytes())
            return tmp_path / "set.zip"

        assert load_images(packed(["cat/1.png", "cat/2.png", "dog/3.png"]), "test").labels.tolist() == [0, 0, 1]
        assert load_images(packed(["cat/1.png", "dog/2.png", "dog/3.png"]), "test").labels.tolist() == [0, 1, 1]

    @pytest.mark.parametrize(
        "damage",
        [
            lambda tensors, metadata: tensors.update(labels=tensors["labels"][1:].clone()),
            lambda tensors, metadata: tensors.update(images=tensors["images"].float()),
            lambda tensors, metadata: tensors["images"].add_(1),
            lambda tensors, metadata: tensors.pop("labels"),
            lambda tensors, metadata: metadata.update(classes="3"),
            lambda tensors, metadata: metadata.pop("crc"),
        ],
        ids=["fewer labels", "another type", "other pixels", "no labels", "no classes", "no sum"],
    )
    def test_a_cache_that_is_not_what_was_stored_is_made_again(self, tmp_path: Path, folder: Path, damage: Any) -> None:
        first = load_images(folder, "test")
        (cached,) = (tmp_path / "cache").glob("*.safetensors")
        tensors, metadata = read_safetensors(cached)
        damage(tensors, metadata)
        save_file(tensors, cached, metadata)
        again = load_images(folder, "test")
        assert torch.equal(again.images, first.images)
        assert torch.equal(again.labels, first.labels)
        assert again.classes == first.classes

    def test_grey_of_16_bits_is_scaled(self, tmp_path: Path) -> None:
        (tmp_path / "grey/a").mkdir(parents=True)
        for i, value in enumerate((1000, 60_000)):
            Image.fromarray(np.full((4, 4), value, np.uint16)).save(tmp_path / f"grey/a/{i}.png")
        assert load_images(tmp_path / "grey", "test").images[:, 0, 0, 0].tolist() == [3, 233]

    def test_a_cache_that_cannot_be_written_is_named(self, tmp_path: Path, folder: Path) -> None:
        (tmp_path / "cache").write_text("")
        with pytest.raises(
            DataError, match=r"cache/.*cannot be written \(.*\): name a writable folder with SNNCONV_CACHE"
        ):
            load_images(folder, "test")

    def test_the_order_of_given_classes_is_the_order_of_labels(self, folder: Path) -> None:
        assert load_images(folder, "test", classes=("bee", "ant")).labels.tolist() == [1] * 6 + [0] * 6

    def test_originals_are_read_with_torchvision(self, tmp_path: Path, monkeypatch) -> None:
        asked = []

        class Original:
            data = np.zeros((4, 32, 32, 3), np.uint8)
            targets = (3, 1, 0, 2)
            classes = ("a", "b", "c", "d")

            def __init__(self, root: str, train: bool, download: bool) -> None:
                asked.append((root, train, download))

        monkeypatch.setattr("torchvision.datasets.CIFAR100", Original)
        (tmp_path / "mine/cifar-100-python").mkdir(parents=True)
        for root in (tmp_path / "mine", tmp_path / "mine/cifar-100-python"):
            images = load_images(root, "test")
            assert images.images.shape == (4, 3, 32, 32)
            assert images.labels.tolist() == [3, 1, 0, 2]
        assert asked == [(str(tmp_path / "mine"), False, False)] * 2

    def test_damaged_originals_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "cifar-10-batches-py").mkdir()
        with pytest.raises(DataError, match=r"CIFAR10 in .* is absent or damaged"):
            load_images(tmp_path, "train")

    def test_no_images(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="holds no images"):
            load_images(tmp_path, "train")


class TestInMemory:
    def test_files_sorted_by_class_are_mixed_always_alike(self, folder: Path) -> None:
        first, again = InMemoryImages(str(folder)), InMemoryImages(str(folder))
        assert torch.equal(first.labels, again.labels)
        assert first.labels.tolist() != sorted(first.labels.tolist())
        assert torch.equal(first.images[:, 0, 0, 0] // 10, first.labels)
        assert torch.equal(InMemoryImages(str(folder), indices=4).images, first.images[:4])
        assert torch.equal(InMemoryImages(str(folder), indices=[2, 5]).images, first.images[[2, 5]])

    def test_a_loader_gets_whole_batches(self, folder: Path) -> None:
        loader = Runner.build_dataloader(
            {
                "dataset": InMemoryImages(str(folder)),
                "batch_size": 5,
                "num_workers": 0,
                "sampler": {"type": "DefaultSampler", "shuffle": False},
            },
            seed=0,
        )
        batches = [ImagePreprocessor()(batch) for batch in loader]
        assert [len(batch["inputs"]) for batch in batches] == [5, 5, 2]
        assert torch.equal(torch.cat([b["data_samples"] for b in batches]), loader.dataset.labels)

    def test_single_samples_make_the_same_batch(self, folder: Path) -> None:
        data = InMemoryImages(str(folder))
        whole = ImagePreprocessor()(pseudo_collate(data.__getitems__([3, 1])))
        single = ImagePreprocessor()(pseudo_collate([data[3], data[1]]))
        assert torch.equal(whole["inputs"], single["inputs"])
        assert torch.equal(whole["data_samples"], single["data_samples"])

    def test_random_numbers_follow_from_seed_and_indices(self, folder: Path) -> None:
        def images(indices: list[int], seed: int = 0) -> torch.Tensor:
            return InMemoryImages(str(folder), pipeline=[{"type": "BatchRandomCrop"}], seed=seed).batch(indices)[
                "inputs"
            ]

        assert torch.equal(images([1, 2, 3, 4]), images([1, 2, 3, 4]))
        assert not torch.equal(images([1, 2, 3, 4]), images([1, 2, 3, 4], seed=1))
        assert not torch.equal(images([1, 2, 3, 4]), images([4, 3, 2, 1]).flip(0))

    def test_ranks_share_an_epoch_and_epochs_differ(self, folder: Path, monkeypatch) -> None:
        data = InMemoryImages(str(folder))
        epochs = []
        for epoch in (0, 1, 1):
            ranks = []
            for rank in (0, 1):
                monkeypatch.setattr("mmengine.dataset.sampler.get_dist_info", lambda rank=rank: (rank, 2))
                sampler = DefaultSampler(data, shuffle=True, seed=0)
                sampler.set_epoch(epoch)
                ranks.append(list(sampler))
            assert sorted(ranks[0] + ranks[1]) == list(range(12))
            epochs.append(ranks)
        assert epochs[0] != epochs[1]
        assert epochs[1] == epochs[2]

    def test_unknown_split(self, folder: Path) -> None:
        with pytest.raises(ValueError, match="'train' or 'test', got 'val'"):
            InMemoryImages(str(folder), split="val")


def batch(count: int = 8, size: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randint(1, 256, (count, 3, size, size), dtype=torch.uint8), torch.arange(count) % 3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestAugmentation:
    @pytest.mark.parametrize(
        "transform",
        [
            BatchRandomCrop(3),
            BatchFlip(),
            BatchCutout(4),
            BatchColorJitter(),
            BatchAutoAugment(),
            BatchMixUp(num_classes=3),
            BatchCutMix(num_classes=3, prob=1.0),
        ],
        ids=lambda t: type(t).__name__,
    )
    def test_keeps_shape_type_and_input_and_follows_the_seed(self, transform) -> None:
        images, labels = batch()
        before = images.clone()
        out, new_labels = transform(images, labels, seeded(5))
        assert out.shape == images.shape
        assert out.dtype == torch.uint8
        assert torch.equal(images, before)
        again, same_labels = transform(images, labels, seeded(5))
        assert torch.equal(out, again)
        assert torch.equal(new_labels, same_labels)
        assert not torch.equal(out, transform(images, labels, seeded(6))[0])

    def test_every_output_is_a_crop_of_its_padded_input(self) -> None:
        images, labels = batch(32)
        out, _ = BatchRandomCrop(2)(images, labels, seeded())
        padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
        places = set()
        for image, source in zip(out, padded, strict=True):
            found = [
                (y, x) for y in range(5) for x in range(5) if torch.equal(image, source[:, y : y + 12, x : x + 12])
            ]
            assert len(found) == 1
            places.update(found)
        assert len(places) > 10

    def test_every_output_is_its_input_or_its_mirror_image(self) -> None:
        images, labels = batch(64)
        out, _ = BatchFlip()(images, labels, seeded())
        mirrored = (out == images.flip(3)).flatten(1).all(1)
        assert torch.equal(~mirrored, (out == images).flatten(1).all(1))
        assert 16 < int(mirrored.sum()) < 48

    def test_cutout_fills_one_square_and_leaves_the_rest(self) -> None:
        images, labels = batch(16)
        out, _ = BatchCutout(4, fill=(0, 0, 0))(images, labels, seeded())
        for image, source in zip(out, images, strict=True):
            hole = (image == 0).all(0)
            assert 4 <= int(hole.sum()) <= 16
            rows, columns = hole.any(1), hole.any(0)
            assert int(rows.sum()) * int(columns.sum()) == int(hole.sum())
            assert torch.equal(image[:, ~hole], source[:, ~hole])

    def test_autoaugment_leaves_the_generator_of_the_process_alone(self) -> None:
        pytest.importorskip("torchvision")
        images, labels = batch(16)
        torch.manual_seed(3)
        expected = torch.rand(4)
        torch.manual_seed(3)
        out, same = BatchAutoAugment()(images, labels, seeded())
        assert torch.equal(torch.rand(4), expected)
        assert torch.equal(same, labels)
        changed = (out != images).flatten(1).any(1)
        assert int(changed.sum()) > 2
        with pytest.raises(ValueError, match=r"policy must be one of \('cifar10', 'imagenet', 'svhn'\), got 'mnist'"):
            BatchAutoAugment("mnist")

    def test_one_image_is_a_batch_of_one(self) -> None:
        images, labels = batch()
        torch.manual_seed(3)
        found = OneImage(dict(type="BatchCutout", size=4, fill=(0, 0, 0)))(images[0])
        torch.manual_seed(3)
        seed = int(torch.randint(2**31, ()))
        generator = torch.Generator().manual_seed(seed)
        assert torch.equal(found, BatchCutout(4, fill=(0, 0, 0))(images[:1], labels[:1], generator)[0][0])
        assert not torch.equal(found, images[0])

    def test_jitter_of_zero_strength_changes_nothing(self) -> None:
        images, labels = batch()
        assert torch.equal(BatchColorJitter(0, 0, 0)(images, labels, seeded())[0], images)

    def test_saturation_leaves_grey_images_alone(self) -> None:
        images, labels = batch()
        grey = images[:, :1].expand(-1, 3, -1, -1)
        assert torch.equal(BatchColorJitter(0, 0, 0.9)(grey, labels, seeded())[0], grey)

    @pytest.mark.parametrize("transform", [BatchMixUp(3, alpha=1.0), BatchCutMix(3, prob=1.0)])
    def test_mixed_labels_weigh_what_the_image_shows(self, transform) -> None:
        labels = torch.arange(3).repeat(4)
        images = (90 * labels).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 12, 12)
        out, weights = transform(images, labels, seeded())
        assert torch.allclose(weights.sum(1), torch.ones(12))
        shown = out.float().mean((1, 2, 3)) / 90
        assert torch.allclose(shown, weights @ torch.arange(3.0), atol=0.01)
        assert not torch.equal(out, images)

    def test_labels_become_weights_even_where_nothing_is_mixed(self) -> None:
        images, labels = batch()
        out, weights = BatchCutMix(3, prob=0.0)(images, labels, seeded())
        assert torch.equal(out, images)
        assert torch.equal(weights.argmax(1), labels)

    def test_probabilities_are_checked(self) -> None:
        with pytest.raises(ValueError, match=r"BatchFlip\.prob is a probability, got 2"):
            BatchFlip(2)


TRANSFORM = [PretrainedTransform("torchvision", "resnet18")]


class TestImageFolder:
    def test_labels_are_places_in_the_sorted_list_of_folders(self, folder: Path) -> None:
        data = ImageFolder(str(folder), TRANSFORM)
        assert data.metainfo["classes"] == ("ant", "bee")
        assert {file.split("/")[0]: label for file, label in data.files} == {"ant": 0, "bee": 1}
        assert [label for _, label in data.files] != sorted(label for _, label in data.files)
        sample = data[0]
        assert sample["inputs"].shape == (3, 224, 224)
        assert sample["inputs"].dtype == torch.uint8

    def test_a_part_of_imagenet_keeps_the_labels_of_the_whole(self, tmp_path: Path) -> None:
        pytest.importorskip("timm")
        root = write_images(tmp_path / "val", ("n01440764", "n15075141"), count=1)
        assert sorted(label for _, label in ImageFolder(str(root), TRANSFORM, classes="imagenet").files) == [0, 999]

    def test_a_folder_that_is_no_wnid_is_named(self, tmp_path: Path) -> None:
        pytest.importorskip("timm")
        root = write_images(tmp_path / "val", ("n01440764", "others"), count=1)
        with pytest.raises(DataError, match="others is no class"):
            ImageFolder(str(root), TRANSFORM, classes="imagenet")

    def test_images_side_by_side_are_refused(self, folder: Path) -> None:
        with pytest.raises(DataError, match="no class folders"):
            ImageFolder(str(folder / "ant"), TRANSFORM)

    def test_a_truncated_image_is_named(self, folder: Path) -> None:
        path = folder / "bee/0.png"
        path.write_bytes(path.read_bytes()[:60])
        data = ImageFolder(str(folder), TRANSFORM)
        place = [file for file, _ in data.files].index("bee/0.png")
        with pytest.raises(DataError, match=r"bee/0\.png is damaged .*skip_broken=True"):
            data[place]
        skipping = ImageFolder(str(folder), TRANSFORM, skip_broken=True)
        sample = skipping[place]
        assert int(sample["data_samples"]) == SKIPPED
        assert sample["inputs"].shape == (3, 224, 224)

    def test_preprocessing_equals_the_weights_own(self, folder: Path) -> None:
        from torchvision.models import ResNet50_Weights

        image = Image.open(folder / "ant/0.png").resize((320, 260))
        transform = PretrainedTransform("torchvision", "resnet50")
        ours = ImagePreprocessor(transform.mean, transform.std)({"inputs": [transform(image)]})["inputs"]
        assert torch.allclose(ours[0], ResNet50_Weights.DEFAULT.transforms()(image), atol=1e-6)

    def test_preprocessing_of_timm(self, folder: Path) -> None:
        timm = pytest.importorskip("timm")
        config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg("resnet26.bt_in1k").to_dict())
        image = Image.open(folder / "ant/0.png").resize((320, 260))
        transform = PretrainedTransform("timm", "resnet26.bt_in1k")
        ours = ImagePreprocessor(transform.mean, transform.std)({"inputs": [transform(image)]})["inputs"]
        assert torch.allclose(ours[0], timm.data.create_transform(**config)(image), atol=1e-6)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("torchvision", "resnet180"), "torchvision has no model 'resnet180'"),
            (("torchvision", "resnet18", "V9"), "has no weights 'V9'; it has IMAGENET1K_V1"),
            (("keras", "resnet18"), "'torchvision', 'timm' or 'wheel', got 'keras'"),
            (("timm", "resnet18000"), "timm has no pretrained model 'resnet18000'"),
        ],
    )
    def test_unknown_names(self, arguments: tuple[str, ...], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            PretrainedTransform(*arguments)
