"""Fetching weights from local servers: a plain one that misbehaves on demand, and one like the hub."""

import hashlib
import json
import re
import socket

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from servers import CONTENT, serving
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from blemore.errors import FileError, ValidationError
from blemore_baselines import cli, download
from blemore_baselines.clips.media import ArrayClip
from blemore_baselines.commands import weights as command
from blemore_baselines.download import Publisher, Remote
from blemore_baselines.encoders import create
from blemore_baselines.encoders import download as weights
from blemore_baselines.encoders.download import LOCK
from blemore_baselines.encoders.videoswin import VideoSwinT

SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "model.pth"
SHA, MD5 = f"sha256:{SHA256}", f"md5:{hashlib.md5(CONTENT).hexdigest()}"


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("BLEMORE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    monkeypatch.chdir(tmp_path)
    with serving() as running:
        yield running


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def remote(server, **facts):
    return Remote(f"{server.url}/{NAME}", NAME, **facts)


def fetch(remote, folder):
    return download.fetch(remote, folder, Publisher({}, "Is an account needed?", "SOME_FOLDER", "It has changed."))


def refused(server, folder, code, **facts):
    """The only problem of a download that must fail; nothing is left where an encoder would look."""
    with pytest.raises(FileError) as caught:
        fetch(remote(server, **facts), folder)
    [problem] = caught.value.problems
    assert problem.code == code and not (folder / NAME).exists()
    assert problem.hint and "Traceback" not in str(problem) and "HTTPConnectionPool" not in str(problem)
    return str(problem)


# ------------------------------------------------------------------------------------ one file


@pytest.mark.parametrize(
    "facts", [{}, {"size": len(CONTENT)}, {"checksum": SHA}, {"checksum": SHA[:15]}, {"checksum": MD5}]
)
def test_a_file_arrives_whole(server, folder, facts):
    path = fetch(remote(server, **facts), folder)
    assert path == folder / NAME and path.read_bytes() == CONTENT
    assert [path.name for path in folder.iterdir()] == [NAME], "nothing is left beside it"
    fetch(remote(server, **facts), folder)
    assert len(server.seen) == 1, "it is there already"


def test_a_broken_connection_resumes(server, folder):
    server.breaks = [140_000, 100_000]
    fetch(remote(server, checksum=SHA), folder)
    ranges = [int(header.removeprefix("bytes=").removesuffix("-")) if header else 0 for _, header in server.seen]
    assert (folder / NAME).read_bytes() == CONTENT and len(ranges) == 3
    assert 0 < ranges[1] <= 140_000 and ranges[1] < ranges[2] <= 240_000


def test_another_run_resumes_a_download(server, folder):
    server.breaks = [200_000, *[0] * 9]
    assert "The same command resumes from there" in refused(server, folder, "broken-off")
    server.breaks = []
    server.seen.clear()
    fetch(remote(server), folder)
    assert (folder / NAME).read_bytes() == CONTENT and len(server.seen) == 1
    assert re.fullmatch(r"bytes=[1-9]\d*-", server.seen[0][1])


def test_a_file_that_changed_in_between_is_fetched_again(server, folder):
    server.breaks = [200_000, *[0] * 9]
    refused(server, folder, "broken-off")
    server.breaks, server.content, server.etag = [], CONTENT[::-1], '"two"'
    fetch(remote(server), folder)
    assert (folder / NAME).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("etag, ranges", [('"one"', False), (None, True), ('W/"one"', True)])
def test_without_ranges_or_a_tag_it_starts_again(server, folder, etag, ranges):
    server.etag, server.ranges, server.breaks = etag, ranges, [200_000, *[0] * 9]
    refused(server, folder, "broken-off")
    server.breaks = []
    fetch(remote(server), folder)
    assert (folder / NAME).read_bytes() == CONTENT


def test_a_part_longer_than_the_file_starts_again(server, folder):
    (folder / f".{NAME}.part").write_bytes(CONTENT + b"more")
    (folder / f".{NAME}.part.tag").write_text(server.etag)
    server.refusals = [416]
    fetch(remote(server), folder)
    assert (folder / NAME).read_bytes() == CONTENT


def test_wrong_length(server, folder):
    assert "found 300,000 bytes; expected 300,001, as its publisher states" in refused(
        server, folder, "wrong-length", size=300_001
    )
    server.length = 400_000  # states more than it sends
    assert "broke off after" in refused(server, folder, "broken-off")


@pytest.mark.parametrize("digits", [8, 64])
def test_wrong_hash(server, folder, digits):
    message = refused(server, folder, "wrong-hash", checksum="sha256:" + ("0" * 64)[:digits])
    assert SHA256 in message and "It was not kept" in message
    assert not list(folder.iterdir())


def test_wrong_hash_of_a_file_that_was_there(server, folder):
    (folder / NAME).write_bytes(b"by hand")
    with pytest.raises(FileError, match=rf"Delete {folder / NAME} to download it again"):
        fetch(remote(server, checksum=SHA[:15]), folder)
    assert (folder / NAME).read_bytes() == b"by hand"


@pytest.mark.parametrize("status, message, hint", [
    (404, "answered 404 Not Found", "Has it moved?"), (403, "answered 403 Forbidden", "Is an account needed?"),
    (500, "answered 500 Internal Server Error", "Try again later"), (429, "answered 429", "Try again later"),
])  # fmt: skip
def test_other_answers(server, folder, status, message, hint):
    server.status = status
    text = refused(server, folder, "http-error")
    assert message in text and hint in text


def test_no_network(server, folder):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        server.url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert "cannot be reached: [Errno 111] Connection refused" in refused(server, folder, "no-network")
    server.url = "http://no-such-host.invalid"
    assert "cannot be reached" in refused(server, folder, "no-network")


def test_no_space(server, folder, monkeypatch):
    usage = download.shutil.disk_usage(folder)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert "300,000 bytes are needed, 1,000 are free" in refused(server, folder, "no-space")
    assert not (folder / f".{NAME}.part").exists(), "nothing was written"


def test_space_that_runs_out_while_it_is_written(server, folder):
    """The device accepts no byte, which shows only when it is written to."""
    (folder / f".{NAME}.part").symlink_to("/dev/full")
    (folder / f".{NAME}.part.tag").write_text(server.etag)
    assert "No space left on device" in refused(server, folder, "no-space")


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError) as caught:
        fetch(remote(server), tmp_path / "file")
    assert caught.value.problems[0].code == "cannot-write"


# -------------------------------------------------------------------- what encoders publish where


@pytest.mark.parametrize("name, by_hand", [
    ("clip", False), ("imagebind", False), ("videomaev2", False), ("videomaev2-base", False), ("videoswin", False),
    ("videoswin-s", False), ("videoswin-t", False), ("hubert", False), ("wavlm", False), ("hicmae", True),
])  # fmt: skip
def test_every_encoder_says_how_its_weights_are_published(name, by_hand):
    encoder = create(name)
    assert weights.is_by_hand(encoder.weights, encoder.file) == by_hand
    if "swin" in name:
        [file] = weights.published(name, encoder.weights, encoder.file).files
        assert (
            re.fullmatch(r"sha256:[0-9a-f]{8}", file.checksum)
            and file.checksum[7:] in file.path
            and file.url.startswith("https://download.pytorch.org/")
        )


def run(*arguments, typed=None):
    return CliRunner().invoke(cli.main, ["weights", *map(str, arguments)], input=typed)


@pytest.fixture
def swin(server, monkeypatch):
    """A small Video Swin on the server, with its hash in its name as in torchvision."""
    from originals import randomise
    from originals.swin3d import Swin3D

    path = "model.pth"
    torch.save(randomise(Swin3D(width=8, depths=(2, 1), heads=(1, 2), classes=5)).state_dict(), path)
    with open(path, "rb") as file:
        server.content = file.read()
    name = f"swin3d_t-{hashlib.sha256(server.content).hexdigest()[:8]}.pth"
    monkeypatch.setattr(VideoSwinT, "file", name)
    monkeypatch.setattr(VideoSwinT, "weights", f"{server.url}/models/{name}")
    return name


def test_get_puts_weights_where_extract_looks_and_pins_them(server, swin, folder):
    with pytest.raises(FileError, match=r"`blemore-baselines weights get videoswin-t`, or from http://127\.0\.0\.1"):
        create("videoswin-t").load()
    assert re.search(r"^videoswin-t +no +BSD", run().stdout, re.MULTILINE)
    result = run("get", "videoswin-t", "--yes")
    assert result.exit_code == 0 and result.stdout.strip() == str(folder / swin), result.output
    assert "licence: BSD 3-clause" in result.stderr
    frames = np.zeros((2, 72, 72, 3), np.uint8)
    assert create("videoswin-t", device="cpu").encode(ArrayClip(frames)).shape == (1, 16)
    assert re.search(rf"^videoswin-t +{re.escape(str(folder / swin))} ", run().stdout, re.MULTILINE)
    lock = json.loads((folder / LOCK).read_text())["videoswin-t"]
    assert lock["licence"] == VideoSwinT.licence and lock["commit"] is None
    assert lock["files"][swin]["sha256"] == hashlib.sha256(server.content).hexdigest()
    assert lock["files"][swin]["size"] == len(server.content)


def test_what_was_pinned_does_not_change_unseen(server, swin, folder, monkeypatch):
    """Even if the publisher states no hash."""
    monkeypatch.setattr(VideoSwinT, "file", "plain.pth")
    monkeypatch.setattr(VideoSwinT, "weights", f"{server.url}/plain.pth")
    assert run("get", "videoswin-t", "--yes").exit_code == 0
    (folder / "plain.pth").unlink()
    server.content = server.content[:-1] + b"!"
    changed = run("get", "videoswin-t")
    assert changed.exit_code == 3 and "its SHA-256 is" in changed.stderr and LOCK in changed.stderr
    assert not (folder / "plain.pth").exists()


def test_the_licence_is_shown_and_asked_once(server, swin, folder):
    refused_run = run("get", "videoswin-t", typed="n\n")
    assert refused_run.exit_code == 1 and "nothing was fetched" in refused_run.stderr and not server.seen
    assert "licence: BSD 3-clause" in refused_run.stderr and "Do you agree to it?" in refused_run.stderr
    nobody = run("get", "videoswin-t", typed="")
    assert nobody.exit_code == 2 and "give --yes to agree to the licence" in nobody.stderr and not server.seen
    server.status = 500
    assert run("get", "videoswin-t", typed="y\n").exit_code == 3
    server.status = 200
    again = run("get", "videoswin-t", typed="")
    assert again.exit_code == 0 and "Do you agree" not in again.stderr, "agreed to before"


@pytest.mark.parametrize("name, code, message", [
    ("logmel", 1, "has no weights to fetch (it needs none)"),
    ("openface3", 1, "has no weights to fetch (CSV files of OpenFace 3"),
    ("nothing", 1, "no encoder has this name"),
    ("hicmae", 3, "its authors publish them on a page, not as a file: https://github.com/sunlicai/HiCMAE"),
])  # fmt: skip
def test_weights_that_cannot_be_fetched(name, code, message, folder, server):
    result = run("get", name, "--yes")
    assert result.exit_code == code and message in result.stderr


def test_a_broken_lock_file(server, swin, folder):
    for content in ("[]", '{"clip": 3}', '{"clip": {"files": {"x": {}}}}', "{"):
        (folder / LOCK).write_text(content)
        result = run("get", "videoswin-t", "--yes")
        assert result.exit_code == 1 and LOCK in result.stderr and not server.seen, result.output


def test_missing_weights_by_hand_name_no_command():
    with pytest.raises(FileError) as caught:
        create("hicmae").load()
    assert "weights get" not in str(caught.value) and "checkpoint-99.pth" in str(caught.value)


# ------------------------------------------------------------------------------------- the hub


def name_hub(monkeypatch, url):
    """As HF_ENDPOINT does, which is only read at the start."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def hub(server, tmp_path, monkeypatch):
    """A hub with the model `some/clip`, and a page of plain files, `some/files`."""
    name_hub(monkeypatch, server.url)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPVisionConfig(**sizes, image_size=32, patch_size=8, projection_dim=16)
    CLIPVisionModelWithProjection(config).save_pretrained(tmp_path / "source")
    files = {path.name: path.read_bytes() for path in (tmp_path / "source").iterdir()}
    files |= {"pytorch_model.bin": b"the other format", "README.md": b"words", "onnx/config.json": b"{}"}
    publish(server, "some/clip", "c0ffee" * 6 + "aaaa", files)
    publish(server, "some/files", "beef" * 10, {"README.md": b"words", "deep/er/model.pth": CONTENT})
    return server


def publish(server, hub_id, commit, files):
    siblings = [
        {"rfilename": name, "size": len(content), "blobId": "0" * 40,
         **({"lfs": {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 100}}
            if len(content) > 9000 else {})}
        for name, content in files.items()
    ]  # fmt: skip
    page = json.dumps({"id": hub_id, "sha": commit, "siblings": siblings}).encode()
    server.pages |= {f"/api/models/{hub_id}": page, f"/api/models/{hub_id}/revision/{commit}": page}
    server.pages |= {f"/{hub_id}/resolve/{commit}/{name}": content for name, content in files.items()}


def test_a_model_of_the_hub(hub, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("blemore_baselines.encoders.clip.CLIP.weights", "some/clip")
    result = run("get", "clip", "--yes")
    assert result.exit_code == 0, result.output
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert paths == ["some/clip/config.json", "some/clip/model.safetensors", LOCK], "settings and one format"
    lock = json.loads((folder / LOCK).read_text())["clip"]
    assert lock["commit"].startswith("c0ffee")
    clip = ArrayClip(np.zeros((2, 40, 40, 3), np.uint8))
    expected = create("clip", weights=tmp_path / "source", device="cpu").encode(clip)
    assert np.array_equal(create("clip", device="cpu").encode(clip), expected)


def test_a_model_of_the_hub_stays_at_its_commit(hub, folder):
    name = "hf-image:some/clip"
    assert run("get", name, "--yes").exit_code == 0
    (folder / "some" / "clip" / "config.json").unlink()
    publish(hub, "some/clip", "dead" * 10, {"config.json": b"{}", "model.safetensors": b"newer"})
    old = next(page for page in hub.pages if "/revision/c0ffee" in page)
    hub.seen.clear()
    assert run("get", name).exit_code == 0
    assert hub.seen[0][0] == old and len(hub.seen) == 2 and "/resolve/c0ffee" in hub.seen[1][0]


def test_a_file_on_a_page_of_the_hub(hub, folder):
    [path] = weights.get("mine", "https://huggingface.co/some/files", NAME)
    assert path == folder / NAME and path.read_bytes() == CONTENT
    with pytest.raises(FileError, match=r"some/files: has no other\.pth among its 2 files"):
        weights.get("mine", "https://huggingface.co/some/files", "other.pth")


def test_a_file_of_the_hub_is_checked_and_resumed(hub, folder):
    [address] = [path for path in hub.pages if path.endswith(NAME)]
    hub.breaks = [10**6, 100_000]  # the page itself first
    weights.get("mine", "https://huggingface.co/some/files", NAME)
    assert hub.seen[-1][0] == address and hub.seen[-1][1] and (folder / NAME).read_bytes() == CONTENT
    (folder / NAME).unlink()
    (folder / LOCK).unlink()
    hub.pages[address] = CONTENT[:-1] + b"!"
    with pytest.raises(FileError, match="its SHA-256 is"):
        weights.get("mine", "https://huggingface.co/some/files", NAME)
    assert not (folder / NAME).exists()


def test_a_hub_that_does_not_answer(hub, folder, monkeypatch):
    with pytest.raises(FileError) as caught:
        weights.get("mine", "some/nothing", None)
    assert caught.value.problems[0].code == "http-error" and "404" in str(caught.value)
    name_hub(monkeypatch, "http://no-such-host.invalid")
    with pytest.raises(FileError) as caught:
        weights.get("mine", "some/clip", None)
    assert caught.value.problems[0].code == "no-network"


def test_names_of_encoders_in_hints(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("BLEMORE_WEIGHTS", str(tmp_path))
    for name in ("clip", "hf-image:some/model", "hf-audio:some/model", "hf-video:some/model"):
        with pytest.raises(FileError, match=f"weights get {name}`"):
            create(name).load()
    with pytest.raises(ValidationError, match="has no weights to fetch"):
        command._encoder("gray_flow")
