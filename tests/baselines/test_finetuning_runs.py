"""Whole fine-tuning runs with tiny models: the run folder, stopping and continuing, processes, new clips, bad input.

Clips are short sounds with pictures of faces. As with real models, sizes follow from the files of the weights.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
import transformers as t
from click.testing import CliRunner
from conftest import metadata_csv
from originals import randomise
from PIL import Image

from blemore.errors import BlemoreError, FileError, ValidationError
from blemore.labels import LABELS
from blemore_baselines import cli
from blemore_baselines.dataset import TARGETS, read_dataset
from blemore_baselines.decoding.accounts import figures
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.encoders.hicmae import HiCMAEModel
from blemore_baselines.finetuning import cache, loop, run, state
from blemore_baselines.finetuning.hicmae import PUBLISHED
from blemore_baselines.finetuning.recipes import Recipe
from blemore_baselines.finetuning.run import FINAL, Computing, finetune, predict
from blemore_baselines.results.run import read_run

pytestmark = pytest.mark.usefixtures("one_thread")
CLIPS = 18
PLAIN = Recipe(learning_rate=0.1, weight_decay=0.01, layer_decay=0.9, batch_size=4, epochs=2, warmup=0.5, drop_path=0.1)
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Sounds and faces of 18 train clips in three folds and of four similar test clips, and a tiny HiCMAE."""
    root = tmp_path_factory.mktemp("world")
    labels = np.arange(CLIPS) % len(LABELS)
    (root / "train.csv").write_text(metadata_csv(labels))
    dataset = read_dataset(root / "train.csv")
    rng = np.random.default_rng(0)
    for folder in ("clips", "test", "faces"):
        (root / folder).mkdir()
    names = [*dataset.ids, *(f"test_{k:04}" for k in range(1, 5))]
    for name, label in zip(names, [*labels, *labels[:4]]):
        pitch = 200 + 300 * TARGETS[label] @ np.arange(6)
        wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(9600) / 16_000) + rng.normal(size=9600) / 50
        folder = root / ("test" if name.startswith("test_") else "clips")
        soundfile.write(folder / f"{name}.wav", wave.astype(np.float32), 16_000, subtype="PCM_16")
        (root / "faces" / name).mkdir()
        for number in range(1, 7):
            pixels = np.clip(40 * TARGETS[label][:3] * number + rng.integers(0, 90, (8, 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "faces" / name / f"frame_det_00_{number:06}.png")
    (root / "test.csv").write_text("\n".join(["filename", *names[CLIPS:]]) + "\n")
    model = randomise(HiCMAEModel(16, 1, 1, (16, 32, 32), (64, 64)))
    torch.save({"model": model.state_dict()}, root / "tiny.pth")
    return root


def tune(world, out, recipe=PLAIN, at_once=3, **options):
    arguments = {"weights": world / "tiny.pth", "faces": world / "faces", **options}
    encoder = arguments.pop("encoder", "hicmae")
    clips, dataset = arguments.pop("clips", world / "clips"), read_dataset(world / "train.csv")
    computing = Computing(arguments.pop("cache", world / "cache"), at_once=at_once)
    return finetune(dataset, encoder, clips, out, recipe, computing, **arguments)


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    """A run that was not stopped."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    tune(world, out)
    return out


def call(*arguments):
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments], prog_name="blemore-baselines")


def content(folder):
    """The tables and models of a run; they do not contain its path."""
    names = ("labels.csv", "oof_logits.csv", "losses.csv", "metrics.json", "model.safetensors", "folds.csv")
    return {name: (folder / name).read_bytes() for name in names}


def losses(folder):
    rows = [line.split(",") for line in (folder / "losses.csv").read_text().splitlines()[1:]]
    return {(row[0], row[1]): float(row[2]) for row in rows}


# ----------------------------------------------------------------------------------- the folder


def test_report_predict_and_decode_read_a_run(world, whole, tmp_path, long):
    before = content(whole)
    assert read_run(whole).is_finetuned and "recipe:" in read_run(whole).signature
    if long:  # the plots are slow
        result = call("report", whole)
        assert result.exit_code == 0, result.output
        assert "fine-tuned" in (whole / "report.html").read_text()
    submission = tmp_path / "submission.zip"
    arguments = ["predict", "--model", whole, "--clips", world / "test", "--faces", world / "faces"]
    result = call(*arguments, "--cache", world / "cache", "--ids", world / "test.csv", "--out", submission)
    assert result.exit_code == 0 and "4 clips, checked" in result.stdout + result.stderr, result.stderr
    arguments = ["decode", "--metadata", world / "train.csv", "--scores", whole, "--test-scores", whole]
    result = call(*arguments, "--out", tmp_path / "decoded.zip")
    assert result.exit_code == 0, result.output
    assert content(whole) == before and list((whole / "tensorboard").glob("*/events*"))
    assert not list((whole / "folds").glob("*/*")), "finished folds have no states"


def test_logits_are_out_of_fold_and_predict_uses_the_final_model(world, whole):
    """For copies of train clips, `predict` returns the final model's logits, not the out-of-fold ones."""
    computing = Computing(world / "cache")
    ids = read_dataset(world / "train.csv").ids
    final = predict(whole, ids, world / "clips", world / "faces", computing)
    with np.load(whole / "oof_logits.npz") as stored:
        assert stored["filenames"].tolist() == ids and stored["logits"].shape == (1, CLIPS, 6)
        assert np.abs(stored["logits"][0] - final).max() > 1e-3
    moved = world / "moved"
    moved.mkdir(exist_ok=True)
    (moved / f"{ids[3]}.wav").write_bytes((world / "clips" / f"{ids[3]}.wav").read_bytes())
    alone = predict(whole, [ids[3]], moved, world / "faces", computing._replace(at_once=1))
    assert np.abs(alone[0] - final[3]).max() < 1e-5


def test_training_fold_by_fold_gives_the_same_run(world, whole, tmp_path, monkeypatch):
    """Each fold is trained on the clips of all others, with their own targets."""
    dataset, original, clips_of = read_dataset(world / "train.csv"), run.train_fold, {}

    def note(setup, accelerator, fold, ids, targets):
        clips_of[fold] = dict(zip(ids, targets.tolist(), strict=True))
        return original(setup, accelerator, fold, ids, targets)

    monkeypatch.setattr(run, "train_fold", note)
    for folds in ([2], [0, FINAL]):
        assert tune(world, tmp_path / "run", folds=folds) is None
    assert tune(world, tmp_path / "run", folds=[1]) is not None
    assert content(tmp_path / "run") == content(whole)
    rows = list(zip(dataset.ids, dataset.targets.tolist(), dataset.folds))
    for fold in (0, 1, 2, FINAL):
        assert clips_of[fold] == {clip: target for clip, target, own in rows if own != fold}


def test_clips_at_once_and_workers_affect_rounding_only(world, whole, tmp_path, monkeypatch, long):
    if not long:
        pytest.skip("processes for each fold: with --long")
    monkeypatch.setattr(run, "_on_device", lambda computing, _: computing._replace(workers=1, precision="fp32"))
    tune(world, tmp_path / "run", at_once=1)
    expected, alone = losses(whole), losses(tmp_path / "run")
    assert expected.keys() == alone.keys() and all(abs(expected[key] - alone[key]) < 1e-5 for key in expected)


# ----------------------------------------------------------------------- stopping and continuing


@pytest.mark.parametrize("moment", ["update", "state", "result"])
def test_a_stopped_run_continues_to_the_same_bytes(moment, world, whole, tmp_path, monkeypatch):
    """Stopped during an epoch, before a state is written, or after training but before the result is written."""
    module, name = {"update": (loop, "_update"), "state": (state, "write"), "result": (run, "held_out_logits")}[moment]
    original, calls = getattr(module, name), []

    def stop(*arguments):
        calls.append(arguments)
        if len(calls) == {"update": 5, "state": 2, "result": 1}[moment]:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(module, name, stop)
    fold = 0 if moment == "result" else FINAL
    with pytest.raises(KeyboardInterrupt):
        tune(world, tmp_path / "run", folds=[fold])
    assert 1 <= len(list((tmp_path / "run" / "folds").rglob("epoch_*"))) <= 2
    tune(world, tmp_path / "run", folds=[fold])
    names = ["folds/fold_0.npz"] if moment == "result" else ["folds/final.npz", "model.safetensors"]
    for name in names:
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()


def test_the_earlier_state_replaces_a_damaged_one(world, whole, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "held_out_logits", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        tune(world, tmp_path / "run", folds=[0])
    monkeypatch.undo()
    latest, before = state.files(tmp_path / "run" / "folds" / "fold_0")
    latest.write_bytes(latest.read_bytes()[:-100])
    tune(world, tmp_path / "run", folds=[0])
    assert f"{latest} is damaged" in capsys.readouterr().err
    assert (tmp_path / "run" / "folds" / "fold_0.npz").read_bytes() == (whole / "folds" / "fold_0.npz").read_bytes()


def test_a_killed_process_continues(world, whole, tmp_path, long):
    if not long:
        pytest.skip("processes that are killed: with --long")
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import test_finetuning_runs as t;"
        "from blemore_baselines.engines import one_thread; one_thread(); t.tune(Path(sys.argv[2]), Path(sys.argv[3]))"
    )
    place = Path(__file__).parent
    command = [sys.executable, "-P", "-c", code, place, world, tmp_path / "run"]
    for delay in (0.0, 0.1, 0.3):
        running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while not (tmp_path / "run" / "config.json").exists() and running.poll() is None:
            time.sleep(0.01)
        time.sleep(delay)
        running.send_signal(signal.SIGKILL)
        running.wait()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert content(tmp_path / "run") == content(whole)


def test_the_folder_of_another_run_is_refused(world, whole):
    with pytest.raises(ValidationError, match=r"another recipe learning_rate: 0\.1; now 0\.2"):
        tune(world, whole, PLAIN._replace(learning_rate=0.2))
    with pytest.raises(ValidationError, match="another seed"):
        tune(world, whole, seed=1)


@pytest.mark.long
def test_two_processes_train_as_one(world, whole, tmp_path):
    """On the CPU with gloo: the losses of the same batches agree to 1e-5."""
    arguments = ["finetune", "--encoder", "hicmae", "--weights", world / "tiny.pth", "--metadata", world / "train.csv"]
    arguments += ["--clips", world / "clips", "--faces", world / "faces", "--cache", world / "cache"]
    arguments += ["--epochs", 2, "--batch-size", 5, "--learning-rate", 0.1, "--at-once", 2, "--folds", 0]
    assert call(*arguments, "--out", tmp_path / "one").exit_code == 0
    # On CPUs, `accelerate launch` needs MPI to start several processes, so this sets the variables of torchrun.
    command = [sys.executable, "-P", "-m", "blemore_baselines", *arguments, "--out", tmp_path / "two"]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    environment = {**os.environ, **shared, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    with ExitStack() as stack:
        processes = []
        for rank in ("0", "1"):
            log = stack.enter_context(open(tmp_path / f"{rank}.txt", "w"))
            variables = {**environment, "RANK": rank, "LOCAL_RANK": rank}
            processes.append(subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, env=variables))
            stack.callback(processes[-1].kill)
        while {process.poll() for process in processes} in ({None}, {None, 0}):
            time.sleep(0.1)
        texts = [(tmp_path / f"{rank}.txt").read_text()[-3000:] for rank in (0, 1)]
        assert [process.poll() for process in processes] == [0, 0], texts
    results = [np.load(tmp_path / name / "folds" / "fold_0.npz") for name in ("one", "two")]
    assert len(results[0]["losses"]) == 2 and np.abs(results[0]["losses"] - results[1]["losses"]).max() < 1e-5
    assert np.abs(results[0]["logits"] - results[1]["logits"]).max() < 1e-3
    one, two = (scalars(tmp_path / name / "tensorboard" / "fold_0") for name in ("one", "two"))
    assert set(one) == {"loss", "gradient norm", "learning rate"} and len(one["loss"]) == 4
    for name in one:  # the updates of AdamW do not depend on the scale of the gradients; their norm does
        assert np.allclose(one[name], two[name], rtol=1e-4, atol=1e-7), name


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def scalars(folder):
    """TensorBoard's values by name, one per update."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {name: [event.value for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


# ------------------------------------------------------------------------------- other families


def speech_folder(folder):
    config = t.WavLMConfig(
        **TINY, conv_dim=[8] * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, num_buckets=8
    )
    torch.manual_seed(0)
    t.WavLMModel(config).save_pretrained(folder)
    t.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


def video_folder(folder):
    torch.manual_seed(0)
    config = t.VideoMAEConfig(**TINY, image_size=32, use_mean_pooling=False, num_frames=4, tubelet_size=2)
    t.VideoMAEForPreTraining(t.VideoMAEConfig(**{**config.to_dict(), "decoder_num_hidden_layers": 1})).save_pretrained(
        folder
    )
    size = {"height": 32, "width": 32}
    t.VideoMAEImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name, make, faces", [("hf-audio", speech_folder, False), ("hf-video", video_folder, True)])
def test_the_loss_of_a_tiny_model_falls(name, make, faces, world, tmp_path):
    folder = make(tmp_path / "weights")
    recipe = PLAIN._replace(epochs=12, learning_rate=0.3, drop_path=0.0, layer_decay=1.0)
    options = {"encoder": f"{name}:{folder}", "weights": None, "faces": world / "faces" if faces else None}
    tune(world, tmp_path / "run", recipe, folds=[FINAL], **options)
    with np.load(tmp_path / "run" / "folds" / "final.npz") as result:
        assert result["losses"][-1] < 0.7 * result["losses"][0]


def test_hicmae_beats_constant_answers_on_the_demo(tmp_path, long):
    """From random weights, out of fold: more sets are correct than for the best constant answer, by more than chance.

    The settings were the best of four on these clips, so chance alone would pass more often than 1 in 20 times. Within
    the run, nothing is chosen on the clips that are scored.
    """
    if not long:
        pytest.skip("minutes: with --long")
    from blemore_baselines.demo.generator import make_demo

    demo = make_demo(tmp_path / "demo")
    dataset = read_dataset(demo.train_metadata)
    torch.manual_seed(0)
    tensors = {}
    for key, value in HiCMAEModel(32, 2, 1, (4, 32, 32), (32, 32)).state_dict().items():
        if value.ndim > 1:
            tensors[key] = torch.nn.init.trunc_normal_(torch.empty_like(value), std=value[0].numel() ** -0.5)
        else:
            tensors[key] = torch.full_like(value, float("norm" in key and key.endswith("weight")))
    torch.save(tensors, tmp_path / "random.pth")
    unaugmented = PUBLISHED._replace(operations=0, area=1.0, erasing=0.0, gain=False, published=False, drop_path=0.0)
    recipe = unaugmented._replace(learning_rate=8e-3, batch_size=16, epochs=15, warmup=2, layer_decay=1.0)
    computing, folds = Computing(tmp_path / "cache", at_once=4, workers=2), np.unique(dataset.folds).tolist()
    train = partial(
        finetune, dataset, "hicmae", demo.train, tmp_path / "run", recipe, computing, weights=tmp_path / "random.pth"
    )
    train(folds=folds[:1])  # it fills the cache; the other folds are trained two at a time
    with ProcessPoolExecutor(2, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        for future in [pool.submit(train, folds=[fold]) for fold in folds[1:]]:
            future.result()
    logits, n = np.zeros((1, len(dataset.ids), 6)), len(dataset.ids)
    for fold in folds:
        with np.load(tmp_path / "run" / "folds" / f"fold_{fold}.npz") as result:
            logits[0, dataset.folds == fold] = result["logits"]
    nested = figures(softmax(logits), dataset.labels, dataset.folds)["nested"]
    draws = np.random.default_rng(0).binomial(n, 11 / 144, 100_000)  # the sets that "always anger" gets right
    chance = np.mean(draws >= round(nested["acc_presence"] * n))
    print(f"presence {nested['acc_presence']:.3f}, salience {nested['acc_salience']:.3f}, chance {chance:.4f}")
    assert chance < 0.05


# -------------------------------------------------------------------------------------- the cache


def test_a_clip_is_decoded_again_when_its_source_changes(world, tmp_path, capsys):
    sources = cache.find_sources(["clip00", "clip01"], world / "clips", world / "faces", "video+audio")
    folder = cache.Cache.of_kind(tmp_path, 160, True, has_faces=True)
    cache.fill(folder, sources, workers=1)
    assert "2 clips to decode, about" in capsys.readouterr().err
    stored = folder.read("clip00")
    assert stored.pictures([0, 5]).shape == (2, 160, 160, 3) and stored.at.tolist() == [0, 1600, 3200, 4800, 6400, 8000]
    wave, _ = soundfile.read(world / "clips" / "clip00.wav", dtype="int16")
    assert np.array_equal(stored.sound, wave)
    before = [folder.file(clip).stat().st_mtime_ns for clip in ("clip00", "clip01")]
    cache.fill(folder, sources, workers=1)
    assert [folder.file(clip).stat().st_mtime_ns for clip in ("clip00", "clip01")] == before
    os.utime(world / "clips" / "clip01.wav", ns=(1, 1))
    folder.file("clip00").write_bytes(b"damaged")
    cache.fill(folder, sources, workers=1)
    assert np.array_equal(folder.read("clip00").sound, wave)
    assert folder.file("clip01").stat().st_mtime_ns > before[1]


def test_a_video_is_cropped_to_its_centre_and_keeps_its_times(tmp_path):
    """12 frames, 25 per second; the sound begins at about the time of the first one."""
    from blemore_baselines.clips.media import Clip
    from blemore_baselines.demo.generator import _mov
    from blemore_baselines.demo.score import FPS, RATE, SIDE

    frames = np.full((12, SIDE, SIDE, 3), 90, np.uint8)
    (tmp_path / "a.mov").write_bytes(_mov(frames, np.zeros(RATE, np.float32)))
    source = cache.Source("a", tmp_path / "a.mov", None)
    stored = cache.Cache(tmp_path, 32, True).decode(source)
    assert stored.frames.shape == (12, 32, 32, 3) and np.abs(stored.frames.astype(int) - 90).max() < 6
    expected = (np.arange(12) / FPS - Clip(source.path).offset) * 16_000
    assert np.abs(stored.at - expected).max() <= 1 and abs(len(stored.sound) - 16_000) < 2000
    assert not len(cache.Cache(tmp_path, 32, False).decode(source).sound)
    assert not len(cache.Cache(tmp_path, None, True).decode(source).frames)


@pytest.mark.parametrize(
    "kind, name",
    [((160, True, True), "faces-160-sound"), ((224, False, False), "frames-224"), ((None, True, False), "sound")],
)
def test_names_of_kinds(kind, name, tmp_path):
    assert cache.Cache.of_kind(tmp_path, *kind).folder == tmp_path / name


def test_no_room_for_the_cache(world, tmp_path, monkeypatch):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(FileError, match=r"18 clips to decode, about 0\.01 GB; 0\.0 GB are free(?s:.*)--cache"):
        tune(world, tmp_path / "run", cache=tmp_path / "cache")


def test_a_disk_that_fills_up(world, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    source = cache.find_sources(["clip00"], world / "clips", None, "audio")
    with pytest.raises(FileError, match="No space left(?s:.*)Make room"):
        cache.fill(cache.Cache(tmp_path / "cache", None, True), source, workers=1)
    assert not list((tmp_path / "cache").iterdir())


# -------------------------------------------------------------------------------------- bad input


def refused(*arguments, **options):
    with pytest.raises(BlemoreError) as caught:
        tune(*arguments, **options)
    return caught.value.problems


def test_one_problem_names_all_clips_without_faces(world, tmp_path):
    (tmp_path / "faces").symlink_to(world / "faces")
    few = tmp_path / "few"
    few.mkdir()
    for clip in list((world / "faces").iterdir())[4:]:
        (few / clip.name).symlink_to(clip)
    missing = {clip.name for clip in (world / "faces").glob("clip*")} - {clip.name for clip in few.iterdir()}
    problems = refused(world, tmp_path / "run", faces=few)
    assert [problem.code for problem in problems] == ["no-faces"] and "blemore-baselines faces" in problems[0].hint
    assert f"{len(missing)} of 18 clips" in problems[0].message and all(clip in problems[0].message for clip in missing)
    assert refused(world, tmp_path / "run", faces=tmp_path / "none")[0].code == "cannot-open"


def test_a_clip_without_sound(world, tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    for path in sorted((world / "clips").iterdir())[1:]:
        (clips / path.name).symlink_to(path)
    soundfile.write(clips / "clip00.wav", np.zeros(0, np.float32), 16_000)
    problems = refused(world, tmp_path / "run", clips=clips, cache=tmp_path / "cache")
    assert [problem.code for problem in problems] == ["no-audio"] and "1 of 18 clips" in problems[0].message
    assert "clip00" in problems[0].message and "needs sound" in problems[0].hint


def test_missing_clips(world, tmp_path):
    problems = refused(world, tmp_path / "run", clips=world / "test")
    assert [problem.code for problem in problems] == ["missing-file"] and "18 of 18 clips" in problems[0].message


def test_a_loss_that_is_not_finite_stops_the_run(world, tmp_path):
    problem = refused(world, tmp_path / "run", PLAIN._replace(learning_rate=1e30, epochs=4), folds=[1])[0]
    assert problem.code == "not-finite" and "fold 1, epoch" in problem.where and "update" in problem.where
    assert problem.message.count("clip") > 4 and "--learning-rate" in problem.hint
    assert "The last good state: " in problem.message


def test_weights_that_are_not_finite_are_not_saved(world, tmp_path, monkeypatch):
    """The last update of an epoch gives a weight that is NaN."""
    original = loop._update

    def spoil(training, loader, batch, rate, where):
        result = original(training, loader, batch, rate, where)
        if "epoch 2" in where:
            training.module.head.bias.data[0] = float("nan")
        return result

    monkeypatch.setattr(loop, "_update", spoil)
    recipe = PLAIN._replace(batch_size=12)  # one update per epoch
    problem = refused(world, tmp_path / "run", recipe, folds=[0])[0]
    assert problem.code == "not-finite" and "weights are not finite" in problem.message
    assert "epoch_0001.safetensors" in problem.message
    assert [path.name for path in state.files(tmp_path / "run" / "folds" / "fold_0")] == ["epoch_0001.safetensors"]


@pytest.mark.parametrize(
    "moment, error, number",
    [
        ("_losses", torch.OutOfMemoryError("CUDA"), 3),
        ("_losses", RuntimeError("DefaultCPUAllocator: not enough memory"), 3),
        ("stack", torch.OutOfMemoryError("CUDA"), 1),  # of test views
    ],
)
def test_too_little_memory_says_which_options_help(moment, error, number, world, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, moment, lambda *_: (_ for _ in ()).throw(error))
    problem = refused(world, tmp_path / "run", PLAIN._replace(epochs=1, batch_size=12), folds=[0])[0]
    assert problem.code == "out-of-memory" and f"{number} clips at once" in problem.message
    assert "--at-once" in problem.hint


def test_a_missing_package_is_reported_with_its_extra(world, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    problem = refused(world, tmp_path / "run")[0]
    assert problem.code == "missing-package" and "blemore[finetune]" in problem.hint


def test_weights_of_another_shape(world, tmp_path):
    torch.save({"encoder.patch_embed.proj.weight": torch.zeros(16, 3, 2, 2)}, tmp_path / "other.pth")
    assert "expected 5 axes" in refused(world, tmp_path / "run", weights=tmp_path / "other.pth")[0].message
    assert refused(world, tmp_path / "run2", weights=tmp_path / "none.pth")[0].code == "no-weights"


def test_damaged_models_are_refused(world, whole, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("model.json", "model.safetensors"):
        (copy / name).write_bytes((whole / name).read_bytes())
    arguments = (["test_0001"], world / "test", world / "faces", Computing(world / "cache"))
    assert predict(copy, *arguments).shape == (1, 6), "the two files are enough"
    other = torch.load(world / "tiny.pth", weights_only=True)["model"]
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in other.items()}, copy / "model.safetensors")
    with pytest.raises(ValidationError, match=r"head\.weight"):
        predict(copy, *arguments)
    with pytest.raises(ValidationError, match="was trained on aligned faces"):
        predict(whole, ["test_0001"], world / "test", None, Computing(world / "cache"))


def test_mistakes_in_the_call(world, whole, tmp_path):
    arguments = ["finetune", "--metadata", world / "train.csv", "--clips", world / "clips", "--out", tmp_path / "run"]
    for options, message in (
        (["--encoder", "logmel"], "cannot be fine-tuned"),
        (["--encoder", "wavlm", "--recipe", "published"], "wavlm has reference, last-layer"),
        (["--encoder", "hicmae", "--folds", "x"], "the number of a fold, or final"),
        (["--encoder", "hicmae", "--folds", 7], "expected some of 0, 1, 2, final"),
        (["--encoder", "hf-audio:x", "--weights", "y"], "expected no --weights"),
    ):
        result = call(*arguments, *options)
        assert result.exit_code in (1, 2) and message in result.stderr, result.stderr
    assert refused(world, tmp_path / "big", PLAIN._replace(batch_size=13))[0].code == "bad-batch"
    ids = ["--ids", world / "test.csv", "--out", tmp_path / "s.zip"]
    result = call("predict", "--model", whole, "--features", world / "test.csv", *ids)
    assert result.exit_code == 1 and "--clips" in result.stderr
    assert call("predict", "--model", whole, *ids).exit_code == 2


def test_an_actor_in_two_folds(world, tmp_path):
    text = (world / "train.csv").read_text().splitlines()
    text[1] = text[1].rpartition(",")[0] + ",2"
    (tmp_path / "train.csv").write_text("\n".join(text) + "\n")
    arguments = ["finetune", "--encoder", "hicmae", "--metadata", tmp_path / "train.csv", "--clips", world / "clips"]
    result = call(*arguments, "--out", tmp_path / "run")
    assert result.exit_code == 1 and "actors in more than one fold" in result.stderr
