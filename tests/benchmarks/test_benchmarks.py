"""Benchmark data, rows, tables and baselines."""

from __future__ import annotations

import errno
import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import cifar10, classification, data, main, report
from benchmarks.classification import Entry, Task
from snnbench import results
from snnbench.baselines.spikingjelly import SpikingJellyRecipe, count_spikes
from snnbench.baselines.spikingjelly import convert as convert_recipe
from snnbench.baselines.spikingjelly import evaluate as evaluate_recipe
from snnbench.data import images as image_data
from snnbench.networks.models import DigitsCNN, ResNet20, with_conv_shortcuts
from snnbench.results.answers import word_of
from snnconv.report import ConversionReport, SpikingSite

CLASSES = ("cat", "dog")


def jpeg(value: int, size: int = 8) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(content, format="PNG")
    return content.getvalue()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SNNCONV_CACHE", str(folder))
    return folder


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "pets.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, value in (("cat/0.png", 10), ("cat/1.png", 20), ("dog/0.png", 30)):
            file.writestr(name, jpeg(value))
    return path


class TestData:
    def test_decodes_every_image_with_its_label(self, archive: Path, cache: Path) -> None:
        pets = data.decode_images(archive, CLASSES)
        assert pets.images.shape == (3, 3, 8, 8)
        assert pets.images[:, 0, 0, 0].tolist() == [10, 20, 30]
        assert pets.labels.tolist() == [0, 0, 1]

    def test_second_call_reads_the_cache(self, archive: Path, cache: Path, monkeypatch) -> None:
        first = data.decode_images(archive, CLASSES)
        monkeypatch.setattr(image_data, "_decode", lambda *_: pytest.fail("decoded twice"))
        again = data.decode_images(archive, CLASSES)
        assert torch.equal(first.images, again.images)
        assert torch.equal(first.labels, again.labels)

    def test_another_zip_of_the_same_name_is_decoded_again(self, archive: Path, cache: Path) -> None:
        data.decode_images(archive, CLASSES)
        with zipfile.ZipFile(archive, "a") as file:
            file.writestr("dog/1.png", jpeg(40))
        assert len(data.decode_images(archive, CLASSES)) == 4

    def test_damaged_cache_is_decoded_again(self, archive: Path, cache: Path) -> None:
        data.decode_images(archive, CLASSES)
        (stored,) = cache.iterdir()
        stored.write_bytes(stored.read_bytes()[:50])
        assert len(data.decode_images(archive, CLASSES)) == 3

    def test_killed_while_writing_leaves_nothing(self, archive: Path, cache: Path, monkeypatch) -> None:
        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            data.decode_images(archive, CLASSES)
        assert list(cache.iterdir()) == []

    def test_full_disk_is_named_and_leaves_nothing(self, archive: Path, cache: Path, monkeypatch) -> None:
        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(data.DataError, match=r"no space left.*SNNCONV_CACHE"):
            data.decode_images(archive, CLASSES)
        assert list(cache.iterdir()) == []

    def test_truncated_zip_is_named(self, archive: Path, cache: Path) -> None:
        archive.write_bytes(archive.read_bytes()[:-40])
        with pytest.raises(data.DataError, match=r"pets\.zip is damaged or truncated"):
            data.decode_images(archive, CLASSES)

    def test_damaged_image_is_named(self, archive: Path, cache: Path) -> None:
        with zipfile.ZipFile(archive, "a") as file:
            file.writestr("dog/2.png", jpeg(1)[:40])
        with pytest.raises(data.DataError, match=r"dog/2\.png is damaged"):
            data.decode_images(archive, CLASSES)

    def test_bytes_changed_inside_the_zip_are_noticed(self, archive: Path, cache: Path) -> None:
        content = bytearray(archive.read_bytes())
        content[60] ^= 255
        archive.write_bytes(bytes(content))
        with pytest.raises(data.DataError, match="damaged"):
            data.decode_images(archive, CLASSES)

    def test_image_of_another_size_is_named(self, archive: Path, cache: Path) -> None:
        with zipfile.ZipFile(archive, "a") as file:
            file.writestr("dog/3.png", jpeg(1, size=9))
        with pytest.raises(data.DataError, match=r"dog/3\.png is \(9, 9, 3\)"):
            data.decode_images(archive, CLASSES)

    def test_unknown_class_folder_is_named(self, archive: Path, cache: Path) -> None:
        with zipfile.ZipFile(archive, "a") as file:
            file.writestr("fish/0.png", jpeg(1))
        with pytest.raises(data.DataError, match=r"fish/0\.png"):
            data.decode_images(archive, CLASSES)

    def test_without_data_it_says_what_to_set(self, cache: Path, monkeypatch) -> None:
        monkeypatch.delenv("SNNCONV_DATA", raising=False)
        with pytest.raises(data.DataError, match=r"set SNNCONV_DATA.*--download"):
            data.cifar10("test")
        with pytest.raises(data.DataError, match="set SNNCONV_DATA"):
            data.find("resnet20_cifar10.safetensors")

    def test_data_folder_that_is_none_is_named(self, monkeypatch) -> None:
        monkeypatch.setenv("SNNCONV_DATA", "/no/such/folder")
        with pytest.raises(data.DataError, match="/no/such/folder"):
            data.data_dir()

    def test_order_depends_on_the_seed_alone(self) -> None:
        images = data.ImageSet(torch.arange(40).view(10, 1, 2, 2).to(torch.uint8), torch.arange(10))
        assert torch.equal(images.shuffled(3).labels, images.shuffled(3).labels)
        assert not torch.equal(images.shuffled(3).labels, images.shuffled(4).labels)
        assert sorted(images.shuffled(3).labels.tolist()) == list(range(10))
        assert torch.equal(images.shuffled(3).first(4).labels, images.shuffled(3).labels[:4])

    def test_normalised_batches(self) -> None:
        images = data.ImageSet(torch.full((3, 3, 2, 2), 255, dtype=torch.uint8), torch.zeros(3).long())
        (x, _), (last, _) = images.batches(2)
        assert len(last) == 1
        expected = (1 - torch.tensor(data.IMAGENET_MEAN)) / torch.tensor(data.IMAGENET_STD)
        assert torch.allclose(x[0, :, 0, 0], expected)


class TestModels:
    def test_convolution_shortcuts_give_exactly_equal_outputs(self) -> None:
        model = ResNet20().eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.2, 0.2)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
        equal = with_conv_shortcuts(model)
        x = torch.randn(4, 3, 32, 32)
        with torch.no_grad():
            assert torch.equal(model(x), equal(x))

    def test_weights_of_another_network_are_refused(self, tmp_path: Path) -> None:
        from safetensors.torch import save_file

        from snnbench.networks.models import resnet20_cifar10

        path = tmp_path / "other.safetensors"
        save_file({"conv1.weight": torch.zeros(1)}, str(path))
        with pytest.raises(data.DataError, match="ResNet-20"):
            resnet20_cifar10(path)
        path.write_bytes(b"nonsense")
        with pytest.raises(data.DataError, match="cannot be read"):
            resnet20_cifar10(path)


class TestSpikingJellyRecipes:
    def test_convert_the_resnet20_with_convolution_shortcuts(self) -> None:
        model = with_conv_shortcuts(ResNet20().eval())
        images = torch.randn(2, 3, 32, 32)
        for kind in ("robust", "ltb"):
            snn = convert_recipe(model, SpikingJellyRecipe(kind), [images])
            spikes, neurons = count_spikes(snn, images, [1, 2])
            assert 0 <= spikes[1] <= spikes[2] <= 2 * sum(neurons.values())
            assert len(neurons) == 19

    def test_one_run_gives_the_readout_at_every_t(self) -> None:
        model, x = DigitsCNN().eval(), torch.randn(6, 1, 8, 8)
        recipe = SpikingJellyRecipe("robust")
        with torch.no_grad():
            test = [(x, model(x).argmax(1))]
        both = evaluate_recipe(model, recipe, [x], test, x, [2, 6])
        for t in (2, 6):
            alone = evaluate_recipe(model, recipe, [x], test, x, [t])
            assert both.accuracy[t] == alone.accuracy[t]
            assert both.spikes[t] == alone.spikes[t]
            assert both.spikes_per_neuron[t] == alone.spikes_per_neuron[t]

    def test_unknown_kind_is_refused(self) -> None:
        with pytest.raises(ValueError, match="kind"):
            SpikingJellyRecipe("magic")  # type: ignore[arg-type]


@dataclass(frozen=True)
class Doubling:
    """Stands for a conversion method."""

    timesteps: int = 4
    pre_timesteps: int = 0

    @property
    def pre_timesteps_(self) -> int:
        return self.pre_timesteps

    @property
    def latency(self) -> int:
        return self.pre_timesteps + self.timesteps


@pytest.fixture
def task(tmp_path: Path) -> Task:
    model = DigitsCNN().eval()
    x = torch.randn(20, 1, 8, 8)
    with torch.no_grad():
        y = model(x).argmax(1)
    return Task("classification", "noise", "digits-cnn", model, [x[:10]], [(x, y)], folder=tmp_path / "out")


class Converted(nn.Module):
    """Stands for a spiking network: the network itself, read from the second step on."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.delay = 1
        self.report = ConversionReport(spiking=[SpikingSite("act", "IF", 2, 0.1, 0.2, 0.3)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


@pytest.fixture
def converted(monkeypatch) -> list[int]:
    """`snnconv.convert` that returns the network itself; the list counts its calls."""
    import snnconv

    calls: list[int] = []

    def convert(model: nn.Module, method: Doubling, calibration: object) -> nn.Module:
        calls.append(method.timesteps)
        if method.timesteps == 13:
            raise RuntimeError("unlucky")
        return Converted(model)

    figures = {
        "pipelined_latency": 4,
        "spikes": 9.0,
        "spikes_per_neuron": 0.5,
        "sops": 10.0,
        "macs": 2.0,
        "energy_joule": 1e-9,
        "energy_ratio": 0.25,
    }
    monkeypatch.setattr(snnconv, "convert", convert, raising=False)
    monkeypatch.setattr(classification, "spike_figures", lambda *_: (figures, ["a note"]))
    monkeypatch.setattr(classification, "twin_figures", lambda *_: None)
    return calls


def run(task: Task, *entries: Entry, **options: Any) -> list[tuple[results.Record, results.Point]]:
    return list(classification.run(task, entries, show_progress=False, **options))


class TestRows:
    def test_a_row_holds_what_it_needs(self, task: Task, converted: list[int]) -> None:
        ((record, point),) = run(task, Entry("double, fast", (Doubling(2, 2),)))
        stored = results.read(task.folder / "double-fast.json")
        assert stored["points"] == [point] == record["points"]
        assert stored["metric"] == "top1"
        assert point["metrics"] == {"top1": 100.0} == stored["ann"]["metrics"]
        assert stored["ann"]["macs"] == 1031904
        assert stored["ann"]["energy_joule"] == pytest.approx(1031904 * 4.6e-12)
        assert stored["ann"]["seconds"] > 0
        assert stored["method"] == {"name": "Doubling", "fields": {}}
        assert (point["timesteps"], point["pre_timesteps"], point["latency"]) == (2, 2, 4)  # both phases count
        assert point["window"] == [2, 2]
        assert point["thresholds"] == {"act": [0.1, 0.2, 0.3]}
        assert point["memory_mib"] > 10
        assert stored["sites"] == {"spiking": 1, "analog": []}
        assert (stored["samples"], stored["split"]) == (20, "test")
        assert stored["weights"] == results.digest(task.model)
        assert stored["notes"] == ["a note"]

    def test_all_steps_of_a_row_share_a_file(self, task: Task, converted: list[int]) -> None:
        measured = run(task, Entry("double", (Doubling(2), Doubling(4))))
        assert [point["timesteps"] for _, point in measured] == [2, 4]
        assert [p.name for p in task.folder.glob("*.json")] == ["double.json"]
        stored = results.read(task.folder / "double.json")
        assert [p["timesteps"] for p in stored["points"]] == [2, 4]
        kept = results.read_answers(task.folder / "double.json", stored)
        assert kept is not None
        for point in stored["points"]:
            right = kept.networks[word_of(point)]["right"]
            assert 100 * right.mean() == pytest.approx(point["metrics"]["top1"])

    def test_a_delayed_readout_is_stored_as_it_was(self, task: Task) -> None:
        from snnconv import methods

        entry = Entry("LTB", (methods.LocalThresholdBalancing(8, delay=3, max_batches=3),))
        ((record, point),) = run(task, entry)
        assert point["window"] == [4, 8]
        assert record["method"]["fields"]["delay"] == 3
        assert point["spikes"] > 0
        assert point["energy_joule"] > 0

    def test_resume_measures_only_what_is_missing(self, task: Task, converted: list[int]) -> None:
        first = run(task, Entry("double", (Doubling(2), Doubling(4))))
        again = run(task, Entry("double", (Doubling(2), Doubling(3), Doubling(4))), resume=True)
        assert converted == [2, 4, 3]
        assert [point["timesteps"] for _, point in again] == [2, 4, 3]
        assert [point["seconds"] for _, point in again[:2]] == [point["seconds"] for _, point in first]
        assert [p["timesteps"] for p in results.read(task.folder / "double.json")["points"]] == [2, 3, 4]

    def test_the_quantised_twin_stands_beside_each_point_and_shifted_threshold_equals_it(self, tmp_path: Path) -> None:
        from snnconv import methods

        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(16, 24), torch.nn.ReLU(), torch.nn.Linear(24, 5)).eval()
        x = torch.rand(200, 16)
        task = Task("classification", "noise", "MLP", model, [x[:50]], [(x, model(x).argmax(1))], folder=tmp_path)
        entries = [
            Entry("shifted", (methods.ShiftedThreshold(2), methods.ShiftedThreshold(3))),
            Entry("signed", (methods.SignedIF(4),)),
            Entry("differential", (methods.MultiThreshold(2),)),
        ]
        found = [point for _, point in classification.run(task, entries, show_progress=False)]
        assert [point["twin"] and point["twin"]["levels"] for point in found] == [3, 7, 4, None]
        for point in found[:2]:
            assert point["twin"]["metrics"] == point["metrics"]  # lossless
        assert found[2]["twin"]["energies"]["bit-operations"] == 16 * 24 * 64 + 24 * 5 * 8 * 3

    def test_resume_of_a_finished_row_runs_nothing(self, task: Task, converted: list[int], monkeypatch) -> None:
        entry = Entry("double", (Doubling(2),))
        ((first, _),) = run(task, entry)
        monkeypatch.setattr(classification, "_ann", lambda *_: pytest.fail("measured the network again"))
        ((again, _),) = run(task, entry, resume=True)
        assert again["ann"] == first["ann"]
        assert again["sites"] == first["sites"]

    def test_resume_measures_another_configuration_again(self, task: Task, converted: list[int]) -> None:
        entry = Entry("double", (Doubling(2),))
        run(task, entry)
        fewer = Task(**{**vars(task), "calibration": [task.calibration[0][:5]]})
        run(fewer, entry, resume=True)
        assert converted == [2, 2]

    def test_what_is_damaged_is_not_written_over(self, task: Task, converted: list[int]) -> None:
        entry = Entry("double", (Doubling(2),))
        run(task, entry)
        (task.folder / "double.json").write_text('{"schema": ')
        with pytest.raises(results.ResultError, match=r"not JSON.*mend it"):
            run(task, entry, resume=True)
        assert (task.folder / "double.json").read_text() == '{"schema": '

    def test_without_resume_points_are_measured_again_and_others_stay(self, task: Task, converted: list[int]) -> None:
        run(task, Entry("double", (Doubling(2), Doubling(4))))
        run(task, Entry("double", (Doubling(2),)))
        assert converted == [2, 4, 2]
        assert [p["timesteps"] for p in results.read(task.folder / "double.json")["points"]] == [2, 4]

    def test_a_killed_run_keeps_finished_points(self, task: Task, converted: list[int], monkeypatch) -> None:
        going = classification.run(task, [Entry("double", (Doubling(2), Doubling(4)))], show_progress=False)
        next(going)
        going.close()
        assert [p["timesteps"] for p in results.read(task.folder / "double.json")["points"]] == [2]

    def test_a_failing_row_is_reported_and_the_others_go_on(self, task: Task, converted: list[int]) -> None:
        failures = []
        entries = [Entry("bad", (Doubling(13),)), Entry("good", (Doubling(2),))]
        measured = run(task, *entries, on_error=lambda *f: failures.append(f))
        assert [record["label"] for record, _ in measured] == ["good"]
        assert [(entry.label, steps, str(error)) for entry, steps, error in failures] == [("bad", 13, "unlucky")]
        assert not (task.folder / "bad.json").exists()

    def test_recipe_rows_count_spikes_and_leave_energy_empty(self, task: Task) -> None:
        entry = Entry("theirs", recipe=SpikingJellyRecipe("ltb", delay=True), timesteps=(1, 16), batches=1)
        (_, short), (record, long) = run(task, entry)
        assert record["method"] == {
            "name": "SpikingJelly",
            "fields": {"kind": "ltb", "mode": "99.9%", "delay": True},
        }
        assert record["sites"] == {"spiking": 4, "analog": None}
        assert short["spikes_per_neuron"] < long["spikes_per_neuron"]
        assert long["spikes"] > long["spikes_per_neuron"]
        assert long["energy_joule"] is None
        assert "no synaptic operations" in record["notes"][0]
        assert short["window"] == [1, 1]
        assert long["window"][0] > 1

    def test_recipe_rows_resume_point_by_point(self, task: Task, monkeypatch) -> None:
        recipe, asked = SpikingJellyRecipe("robust"), []
        run(task, Entry("theirs", recipe=recipe, timesteps=(1, 4)))
        original = classification.evaluate_recipe
        monkeypatch.setattr(classification, "evaluate_recipe", lambda *a: asked.append(list(a[5])) or original(*a))
        run(task, Entry("theirs", recipe=recipe, timesteps=(1, 2, 4)), resume=True)
        assert asked == [[2]]

    def test_an_entry_is_methods_or_a_recipe(self) -> None:
        with pytest.raises(ValueError, match="methods"):
            Entry("nothing")
        with pytest.raises(ValueError, match="timesteps"):
            Entry("theirs", recipe=SpikingJellyRecipe("ltb"))

    def test_methods_of_an_entry_differ_in_steps_alone(self) -> None:
        from snnconv import methods

        with pytest.raises(ValueError, match="differ in nothing but their steps"):
            Entry("IF", (methods.IF(4), methods.IF(8, correction="none")))

    def test_rows_of_one_file_are_refused(self, task: Task) -> None:
        with pytest.raises(ValueError, match=r"2 rows would be stored in a-b\.json"):
            run(task, Entry("a b", (Doubling(),)), Entry("A, b", (Doubling(),)))


class TestReport:
    def test_table_and_plot(self, task: Task, converted: list[int], capsys) -> None:
        pytest.importorskip("matplotlib")
        entries = [
            Entry("good one", (Doubling(2), Doubling(4))),
            Entry("theirs", recipe=SpikingJellyRecipe("rate", "max"), timesteps=(1,)),
        ]
        rows = {record["label"]: record for record, _ in run(task, *entries)}
        report.print_table(list(rows.values()), (1, 2, 4), {("bad", 4): "it broke"})
        printed = capsys.readouterr().out
        for word in ("good one", "theirs", "bad", "failed", "it broke", "T=4", "100.0", "0.250"):
            assert word in printed
        report.plot(list(rows.values()), task.folder / "plot.png")
        assert (task.folder / "plot.png").read_bytes().startswith(b"\x89PNG")

    def test_rows_are_chosen_by_words_of_their_label(self) -> None:
        entries = [Entry("signed IF", (Doubling(),)), Entry("SpikingJelly LTB", (Doubling(),))]
        assert [e.label for e in main.chosen(entries, "Signed")] == ["signed IF"]
        assert main.chosen(entries, None) == entries
        assert main.chosen([*entries, Entry("IF", (Doubling(),))], "if")[0].label == "IF"
        with pytest.raises(data.DataError, match="matches none of: signed IF"):
            main.chosen(entries, "nonsense")

    def test_methods_are_chosen_by_their_steps(self) -> None:
        from snnconv import methods

        entries = [
            Entry("IF", (methods.IF(4), methods.IF(8))),
            Entry("SRP", (methods.SRP(2, 2),)),
            Entry("long", (methods.IF(64),)),
            Entry("theirs", recipe=SpikingJellyRecipe("rate", "max"), timesteps=(1,)),
        ]
        kept = main.chosen(entries, None, "4")
        assert [(e.label, e.methods) for e in kept[:2]] == [("IF", (methods.IF(4),)), ("SRP", (methods.SRP(2, 2),))]
        assert kept[2:] == entries[3:]
        with pytest.raises(data.DataError, match="whole numbers"):
            main.chosen(entries, None, "many")


class TestCommands:
    @pytest.mark.parametrize("arguments", [["--calibration", "5000"], ["--limit", "0"], ["--baseline-limit", "-1"]])
    def test_cifar10_refuses_bad_numbers(self, arguments: list[str]) -> None:
        with pytest.raises(data.DataError, match=arguments[0]):
            cifar10.run(arguments)

    def test_a_data_error_is_one_sentence_and_status_2(self, capsys) -> None:
        def fails() -> int:
            raise data.DataError("there is nothing here")

        with pytest.raises(SystemExit) as stop:
            main.exit_with(fails)
        assert stop.value.code == 2
        assert capsys.readouterr().err == "error: there is nothing here\n"

    @pytest.mark.parametrize(
        ("again", "said"), [("", "interrupted\n"), (main.GOES_ON, f"interrupted; {main.GOES_ON}\n")]
    )
    def test_an_interruption_is_status_130_and_says_how_to_go_on(self, again: str, said: str, capsys) -> None:
        def stopped() -> int:
            raise KeyboardInterrupt

        with pytest.raises(SystemExit) as stop:
            main.exit_with(stopped, again)
        assert stop.value.code == 130
        assert capsys.readouterr().err == said

    def test_resume_is_named_by_the_commands_that_have_it(self) -> None:
        folder = Path(main.__file__).parent
        commands = {
            p: p.read_text() for p in folder.rglob("*.py") if p.name != "main.py" and "exit_with(" in p.read_text()
        }
        named = {path.name for path, text in commands.items() if "RESUMES)" in text}
        having = {p.name for p, text in commands.items() if "main.parser(" in text or '"--resume"' in text}
        assert len(commands) >= 15
        assert named == having


def test_digits_network_reaches_98_percent() -> None:
    pytest.importorskip("sklearn")
    from benchmarks.digits import load_digits, train_digits

    digits = load_digits()
    assert len(digits.y_train) + len(digits.y_test) == 1797
    model = train_digits(digits)
    assert classification.accuracy(model, [(digits.x_test, digits.y_test)]) >= 98.0


def test_cifar10_network_has_the_expected_accuracy(resnet20: nn.Module) -> None:
    test = data.cifar10("test").shuffled(0).first(1000)
    assert 86 < classification.accuracy(resnet20, list(test.batches(100))) < 91
