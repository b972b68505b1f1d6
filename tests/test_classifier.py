"""A trained network ready to use: a picture in, names out, alike from a file, from pixels and in judging."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import alexnet as package
from alexnet.classifier import Classifier
from alexnet.data.decode import read
from alexnet.data.sources import open_dataset
from alexnet.data.statistics import Statistics
from alexnet.judge import judge
from alexnet.runtime.errors import BadInputError, UsageError

COLOURS = ("blue", "green", "red")


@pytest.fixture(scope="module")
def classifier(finished_run):
    return Classifier.load(finished_run)


def test_the_classes_come_with_their_probabilities_the_most_probable_first(classifier, pictures):
    for name in COLOURS:
        best = classifier.classify(pictures / name / "03.png")
        assert best[0][0] == name and {known for known, _ in best} == set(COLOURS)
        shares = [share for _, share in best]
        assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1, abs=1e-6)


def test_a_file_its_name_and_its_pixels_are_the_same_picture(classifier, pictures):
    file = pictures / "green" / "02.jpg"
    assert classifier.classify(file) == classifier.classify(str(file)) == classifier.classify(read(file))


def test_whatever_holds_a_files_name_or_its_pixels_will_do(classifier, pictures):
    file = pictures / "green" / "02.jpg"
    (entry,) = [entry for entry in os.scandir(os.fsencode(file.parent)) if entry.name == b"02.jpg"]
    pixels, expected = read(file), classifier.classify(file)
    with Image.open(file) as image:
        for same in (entry, image, list(pixels), torch.from_numpy(pixels.copy()), np.asfortranarray(pixels)):
            assert classifier.classify(same) == expected


@pytest.mark.parametrize(
    "image",
    [
        *(np.zeros(shape, "uint8") for shape in ((8, 8), (8, 8, 4), (3, 8, 8), (0, 8, 3), (8, 0, 3))),
        np.zeros((8, 8, 3), "float32"),
        Image.new("L", (8, 8)),
        [[[1, 2, 3]]],
        [[1], [2, 3]],
        None,
        7,
    ],
)
def test_an_image_of_another_kind_is_refused(classifier, image):
    with pytest.raises(BadInputError, match=r"^the image: is .*; give a file or uint8\[H, W, 3\], RGB$"):
        classifier.classify(image)


def test_one_can_learn_on_codes(classifier, pictures):
    file = pictures / "red" / "01.png"
    for code in (classifier.code(file), *(each.flatten() for each in classifier.activations(file).values())):
        weights = torch.zeros(len(code), requires_grad=True)
        (weights @ code).backward()
        assert torch.equal(weights.grad, code) and not code.requires_grad


def test_statistics_of_another_side_are_refused(own_run):
    path = own_run / "statistics.safetensors"
    Statistics(np.zeros((40, 40, 3), np.float32), np.ones(3), np.eye(3)).write(path)
    with pytest.raises(
        BadInputError, match=rf"^{path}: a mean image of 40 x 40 x 3, not 32 x 32 x 3 as .*; train again$"
    ):
        Classifier.load(own_run)


def test_a_picture_of_any_size_is_classified(classifier):
    for shape in ((1, 1), (7, 90), (300, 200), (32, 32)):
        picture = np.full((*shape, 3), (200, 50, 40), np.uint8)
        assert classifier.classify(picture)[0][0] == "red"
        assert classifier.classify(picture, views=10)[0][0] == "red"


def test_classifying_says_what_judging_says(own_run, pictures):
    dataset = open_dataset(str(pictures))
    for views in (1, 10):
        judged = judge(own_run, dataset, views, lambda *_: None)
        alone = Classifier.load(own_run)
        for number, key in enumerate(dataset.held_out.keys):
            best = dict(alone.classify(dataset.held_out.where + key, views))
            assert [best[name] for name in COLOURS] == pytest.approx(judged.probabilities[number].tolist(), abs=1e-5)


def test_activities_and_the_code_are_there_by_name(classifier, pictures):
    file = pictures / "red" / "01.png"
    found = classifier.activations(file, "conv1", "fc10")
    assert list(found) == ["conv1", "fc10"] and found["conv1"].shape == (1, 32, 32, 32)
    best = dict(classifier.classify(file))
    shares = torch.softmax(found["fc10"][0].float(), 0)
    # Activities are computed in float32, probabilities with bf16 products where the machine has units for them.
    assert shares.tolist() == pytest.approx([best[name] for name in COLOURS], abs=2e-3)
    assert classifier.code(file).ndim == 1
    with pytest.raises(UsageError, match="no such layer"):
        classifier.activations(file, "conv9")


def test_the_package_offers_it_by_name(finished_run):
    assert package.Classifier is Classifier
    assert set(package.__all__) == {"AlexNet", "Classifier", "Recipe"}
    assert (
        package.AlexNet("cifar-18pct").lineage.name
        == package.Recipe("x").altered({"network.lineage": "cifar-18pct"}).network.build().name
    )
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        package.Nothing  # noqa: B018


def test_a_newest_checkpoint_that_is_damaged_gives_way_to_the_one_before_it(own_run):
    (own_run / "checkpoints" / "step-000000008" / "weights.safetensors").write_bytes(b"damaged")
    assert Classifier.load(own_run).checkpoint == "step-000000004"


def test_a_run_lives_in_any_place(own_run, pictures, tmp_path):
    before = Classifier.load(own_run).classify(pictures / "red" / "05.png")
    moved = shutil.move(own_run, tmp_path / "Ünïcødé 日本")
    assert Classifier.load(moved).classify(pictures / "red" / "05.png") == before


def test_classify_prints_and_gives_json(alexnet, finished_run, pictures):
    files = [str(pictures / name / "07.png") for name in COLOURS]
    ended = alexnet("classify", finished_run, *files, "--json", "--views", 10)
    assert (ended.code, ended.err) == (0, "")
    predictions = json.loads(ended.out.splitlines()[-1])["predictions"]
    assert [each["image"] for each in predictions] == files
    for name, each in zip(COLOURS, predictions, strict=True):
        assert each["classes"][0]["class"] == name and len(each["classes"]) == 3
        assert sum(guess["probability"] for guess in each["classes"]) == pytest.approx(1, abs=1e-6)
    assert re.search(rf"^{files[0]}\n +\d+\.\d% .* blue$", ended.out, re.MULTILINE)


def test_a_bad_picture_among_good_ones_is_named_and_the_good_ones_are_answered(
    alexnet, finished_run, pictures, tmp_path
):
    (tmp_path / "broken.jpg").write_bytes((pictures / "red" / "00.jpg").read_bytes()[:200])
    good = [pictures / "red" / "00.jpg", pictures / "blue" / "01.png"]
    bad = [tmp_path / "broken.jpg", tmp_path / "missing.jpg", tmp_path]
    ended = alexnet("classify", finished_run, good[0], *bad, good[1], "--json")
    assert ended.code == 3
    assert [line.split(": ")[2] for line in ended.err.splitlines()] == [str(file) for file in bad]
    assert all(line.startswith("alexnet classify: error: ") for line in ended.err.splitlines())
    predictions = json.loads(ended.out.splitlines()[-1])["predictions"]
    assert [each["image"] for each in predictions] == [str(file) for file in good]
    assert all(str(file) in ended.out for file in good)


def test_names_that_a_terminal_would_obey_are_printed_as_text(alexnet, own_run, pictures, tmp_path):
    (own_run / "classes.json").write_text(json.dumps(["blue", "gr\x1b[2Jeen", "red\nherring"]))
    file = tmp_path / "\x1b[31mred\n.png"
    shutil.copy(pictures / "red" / "01.png", file)
    ended = alexnet("classify", own_run, file, "--json")
    assert ended.code == 0
    *shown, last = ended.out.splitlines()
    assert "\x1b" not in ended.out and len(shown) == 4 and r"red\nherring" in shown[1]
    assert json.loads(last)["predictions"][0]["image"] == str(file), "in JSON the name is itself"


def test_a_name_that_is_not_unicode_is_classified(finished_run, pictures, tmp_path):
    file = tmp_path / os.fsdecode(b"\xff\xfe.png")
    shutil.copy(pictures / "red" / "01.png", file)
    command = [sys.executable, "-m", "alexnet", "classify", str(finished_run), file, "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout.splitlines()[-1])["predictions"][0]["classes"][0]["class"] == "red"


def test_what_cannot_be_loaded_is_named(own_run, tmp_path):
    with pytest.raises(BadInputError, match=f"^{tmp_path / 'none'}: no run here; "):
        Classifier.load(tmp_path / "none")
    shutil.rmtree(own_run / "checkpoints")
    with pytest.raises(BadInputError, match=f"^{own_run}: nothing learned yet; "):
        Classifier.load(own_run)


def test_a_run_whose_classes_do_not_fit_its_weights_is_refused(own_run):
    (own_run / "classes.json").write_text('["blue", "green"]')
    with pytest.raises(BadInputError, match=r"weights\.safetensors: .*fc10.*; "):
        Classifier.load(own_run)


def test_a_grey_picture_with_alpha_is_as_good_as_any(classifier, tmp_path):
    Image.new("LA", (50, 60), (0, 0)).save(tmp_path / "clear.png")
    Image.new("RGB", (50, 60), "white").save(tmp_path / "white.png")
    assert classifier.classify(tmp_path / "clear.png") == classifier.classify(tmp_path / "white.png")
