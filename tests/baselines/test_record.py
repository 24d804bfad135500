"""Getting the dataset with one command, from a local server that imitates Zenodo's API."""

import hashlib
import io
import json
import re
import socket
import stat
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from servers import NUMBER, entry, pack, publish, serving

from blemore.errors import FileError, ValidationError
from blemore_baselines import cli, download
from blemore_baselines.demo import generator as demo
from blemore_baselines.survey import record as records
from blemore_baselines.survey import unpack as unpacking

TRAIN, TEST = demo.plan()
TAKES = [take for actor in (0, 1) for take in [take for take in TRAIN if take.actor == actor][:3]]  # in two folds
TOKEN = "s3cret-t0ken"


@pytest.fixture(scope="module")
def small_demo(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "plan", lambda: (TAKES, TEST[:2]))
        return demo.make_demo(tmp_path_factory.mktemp("demo"), workers=1).train.parent


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv(records.TOKEN, raising=False)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    monkeypatch.chdir(tmp_path)
    with serving() as running:
        monkeypatch.setattr(records, "API", f"{running.url}/api/records/")
        yield running


@pytest.fixture
def dataset(server, small_demo):
    """A record with the small demo's files: name → content."""
    files = {path.name: path.read_bytes() for path in small_demo.iterdir() if path.is_file()}
    for part in ("train", "test"):
        files[f"{part}_videos.zip"] = pack({f.name: f.read_bytes() for f in (small_demo / part).glob("*.mov")})
    ids = [take.name for take in TAKES]
    features = {f"pre/WavLM_large_train/{clip}.npy": npy(index) for index, clip in enumerate(ids)}
    files["pre_extracted_train_data.zip"] = pack(features)
    publish(server, files)
    return files


def npy(value):
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, np.full((3, 4), float(value)))
    return buffer.getvalue()


def get(*options, typed=None, answer="--yes"):
    arguments = ["data", "get", "--out", "DATA", "--record", str(NUMBER), *filter(None, [answer]), *options]
    return CliRunner().invoke(cli.main, arguments, input=typed)


def refused(run, code, *words):
    """A run that failed with messages, one line and a hint per problem, without leaving a partial file."""
    assert run.exit_code == code, run.output
    assert all(word in run.stderr for word in words), run.stderr
    assert "Traceback" not in run.output and "defect" not in run.output and TOKEN not in run.output
    return run.stderr


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def requests(server):
    """What was fetched, in order: a file's name, or "record"."""
    return [path.split("/")[5] if path.count("/") > 4 else "record" for path, _ in server.seen]


# --------------------------------------------------------------------------------- the whole way


def test_the_dataset_by_one_command(dataset, server):
    result = get()
    assert result.exit_code == 0, result.output
    assert (
        result.stdout.endswith("Nothing is missing or wrong.\n")
        and "compared only with its own tables" in result.stdout
    )
    assert "files unpacked" not in result.stdout, "talk goes to stderr"
    assert "14 files unpacked, 0 there already" in result.stderr
    paths = files_in("DATA")
    assert set(dataset) < set(paths), "the archives stay"
    assert f"train_videos/{TAKES[0].name}.mov" in paths, "loose files get a folder"
    assert f"pre/WavLM_large_train/{TAKES[0].name}.npy" in paths, "an archive with a folder of its own gets none"
    assert not [path for path in paths if "/." in f"/{path}" and path != demo.MARKER], "nothing else is left"
    before = {path: Path("DATA", path).stat().st_mtime_ns for path in paths}
    server.seen.clear()
    again = get(answer=None)
    assert again.exit_code == 0 and "0 files unpacked, 14 there already" in again.stderr
    assert requests(server) == ["record"], "all is there: neither fetched nor asked for"
    assert {path: Path("DATA", path).stat().st_mtime_ns for path in files_in("DATA")} == before


def test_it_shows_what_comes_and_asks_first(dataset, server):
    text = refused(get(typed="n\n", answer=None), 1, "nothing was fetched", "Fetch them, and agree to that licence?")
    assert "licence: cc-by-nc-4.0" in text and f"https://zenodo.org/records/{NUMBER}" in text
    assert "\x1b" not in text, "a title is no command to the terminal"
    assert re.search(r"^pre_extracted_train_data\.zip +\d\.\d kB +features +will be fetched$", text, re.MULTILINE)
    assert re.search(r"^train_metadata\.csv +\d+ bytes +– +will be fetched$", text, re.MULTILINE)
    assert requests(server) == ["record"] and not Path("DATA").exists()
    refused(get(typed="", answer=None), 2, "there is no terminal to ask at; give --yes to agree to the licence")


@pytest.mark.parametrize("only, missing", [
    ("train", {"test_videos.zip", "test_labels.json", "pre_extracted_train_data.zip"}),
    ("test", {"train_videos.zip", "pre_extracted_train_data.zip"}),
    ("features", {"train_videos.zip", "test_videos.zip", "test_labels.json"}),
])  # fmt: skip
def test_a_single_part(dataset, server, only, missing):
    """Files that were skipped on purpose are not reported as problems."""
    result = get("--only", only)
    assert result.exit_code == 0, result.output
    assert {path for path in files_in("DATA") if "/" not in path} == set(dataset) - missing
    assert all(re.search(rf"^{name} .*will be skipped$", result.stderr, re.MULTILINE) for name in missing)
    assert not missing & set(requests(server))


def test_files_missing_from_the_part_are_reported(dataset, server):
    dataset["train_videos.zip"] = pack({f"{TAKES[0].name}.mov": b"no video"})
    publish(server, dataset)
    result = get("--only", "train")
    assert result.exit_code == 1 and "5 of 6 train clips have no video" in result.stdout
    assert "test clips have no video" not in result.stdout


@pytest.mark.parametrize("name, part", [
    ("train_videos.zip", "train"), ("Training.zip", "train"), ("blemore-TEST-clips.zip", "test"), ("README.md", ""),
    ("pre_extracted_test_data.zip", "features"), ("WavLM_large_train.zip", "features"), ("latest.zip", ""),
    ("VideoMAEv2_test.zip", "features"), ("CLIP_static_features.npz", "features"), ("train_metadata.csv", ""),
    ("test_metadata.csv", ""), ("train_and_test.zip", ""), ("constraint.txt", ""),
])  # fmt: skip
def test_parts_by_the_words_in_names(name, part):
    assert records.part_of(name) == part


@pytest.mark.parametrize("name, by_hand", [
    ("a.tar.gz", True), ("a.tgz", True), ("a.7z", True), ("a.zip.001", True), ("a.z01", True), ("a.rar", True),
    ("a.npz", False), ("a.csv", False), ("a.zip", False),
])  # fmt: skip
def test_archives_of_other_kinds(name, by_hand):
    assert unpacking.is_other_archive(Path(name)) == by_hand
    assert unpacking.is_archive(Path(name)) == (name == "a.zip")


def test_other_archives_are_reported(dataset, server):
    publish(server, {**dataset, "more.tar.gz": b"x"})
    assert "more.tar.gz: not a zip file; unpack it by hand" in get().stderr


# --------------------------------------------------------------------------- breaks and changes


def test_an_interrupted_download_resumes(dataset, server):
    big = {**dataset, "train_videos.zip": pack({"filler.bin": bytes(400_000), TAKES[0].name + ".mov": b"x"})}
    publish(server, big)
    order = list(big)
    server.breaks = [None] * (order.index("train_videos.zip") + 1) + [200_000] + [0] * 9  # the record comes first
    text = refused(get(), 3, "train_videos.zip", "the connection broke off after", "resumes from there")
    assert "Everything" not in text and "unpacked" not in text
    assert not Path("DATA/train_videos.zip").exists() and Path("DATA/.train_videos.zip.part").exists()
    server.breaks = []
    server.seen.clear()
    result = get()
    assert re.search(r"^train_videos\.zip .*will resume after 1\d\d\.\d kB$", result.stderr, re.MULTILINE)
    ranges = dict(server.seen)
    assert re.fullmatch(r"bytes=[1-9]\d+-", ranges[f"/api/records/{NUMBER}/files/train_videos.zip/content"])
    assert Path("DATA/train_videos.zip").read_bytes() == big["train_videos.zip"]


@pytest.mark.parametrize("tag", ['"one"', None])
def test_the_md5_is_enough_to_resume(dataset, server, tag):
    """Also from a server without tags."""
    name, content = "train_videos.zip", dataset["train_videos.zip"]
    server.etag = tag
    download_part(name, content[:1000], f"{tag or ''}\nmd5:{hashlib.md5(content).hexdigest()}")
    assert get().exit_code == 0
    assert ("bytes=1000-" in [header for _, header in server.seen]) and Path("DATA", name).read_bytes() == content


def test_a_record_that_changed_in_between_is_fetched_again(dataset, server):
    name, content = "train_videos.zip", dataset["train_videos.zip"]
    download_part(name, b"of another file", '"one"\nmd5:' + "0" * 32)
    result = get()
    assert result.exit_code == 0 and re.search(rf"^{name} .*will be fetched$", result.stderr, re.MULTILINE)
    assert not [header for _, header in server.seen if header] and Path("DATA", name).read_bytes() == content


def test_a_complete_download_that_was_not_checked(dataset, server):
    name, content = "train_videos.zip", dataset["train_videos.zip"]
    download_part(name, content, f"\nmd5:{hashlib.md5(content).hexdigest()}")
    assert get().exit_code == 0 and name not in requests(server)
    assert Path("DATA", name).read_bytes() == content


def download_part(name, content, note):
    """As an interrupted download leaves it."""
    Path("DATA").mkdir()
    Path(f"DATA/.{name}.part").write_bytes(content)
    Path(f"DATA/.{name}.part.tag").write_text(note)


def test_a_file_that_arrives_with_another_hash(dataset, server):
    path = f"/api/records/{NUMBER}/files/train_videos.zip/content"
    server.pages[path] = server.pages[path][:-1] + b"!"
    refused(get(), 3, "its MD5 is", "It was not kept", "the record itself is faulty")
    assert "train_videos.zip" not in files_in("DATA") and not list(Path("DATA").glob(".train_videos*"))
    server.pages[path] += b"longer"
    refused(get(), 3, "its publisher states")
    assert "train_videos.zip" not in files_in("DATA")


def test_existing_files_that_differ_from_the_record(dataset, server):
    """All of them are reported before anything is fetched; nothing is overwritten."""
    Path("DATA").mkdir()
    other = {"train_metadata.csv": b"mine", "test_videos.zip": dataset["test_videos.zip"][:-1] + b"!"}
    for name, content in other.items():
        Path("DATA", name).write_bytes(content)
    refused(get(), 3, "its MD5 is", "found 4 bytes in", f"Delete {Path('DATA/train_metadata.csv')}")
    assert requests(server) == ["record"]
    assert {path.name: path.read_bytes() for path in Path("DATA").iterdir()} == other


# ------------------------------------------------------------------------------------- access


def test_a_restricted_record(dataset, server, monkeypatch):
    server.token = TOKEN
    text = refused(get(), 3, "answered 403", "The record is restricted: ask for access on", "ZENODO_TOKEN")
    assert not Path("DATA").exists() and text.count("answered") == 1
    monkeypatch.setenv(records.TOKEN, "another")
    refused(get(), 3, "answered 403", "may not read it, or the token has expired")
    monkeypatch.setenv(records.TOKEN, f" {TOKEN}\n")
    result = get()
    assert result.exit_code == 0 and TOKEN not in result.output


def test_a_record_that_lists_no_files_because_it_is_restricted(dataset, server):
    publish(server, {}, metadata={"access_right": "restricted"}, files=[])
    refused(get(), 3, 'lists no files; its access is "restricted"', "ask for access on")


def test_a_token_is_sent_nowhere_else(dataset, server, monkeypatch):
    """Neither after a redirect, nor to an address elsewhere that the record itself names."""
    monkeypatch.setenv(records.TOKEN, TOKEN)
    with serving() as elsewhere:
        first, second, *_ = dataset
        place = f"/api/records/{NUMBER}/files"
        elsewhere.pages = {"/moved": dataset[first], "/named": dataset[second]}
        publish(server, dataset)
        server.redirects = {f"{place}/{first}/content": f"{elsewhere.url}/moved"}
        record = json.loads(server.pages[f"/api/records/{NUMBER}"])
        record["files"][1]["links"]["self"] = f"{elsewhere.url}/named"
        server.pages[f"/api/records/{NUMBER}"] = json.dumps(record).encode()
        assert get().exit_code == 0
        assert [path for path, _ in elsewhere.seen] == ["/moved", "/named"] and elsewhere.tokens == [None, None]
        assert set(server.tokens) == {f"Bearer {TOKEN}"}


def test_a_netrc_does_not_replace_a_token(dataset, server, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv(records.TOKEN, TOKEN)
    server.token = TOKEN
    assert get().exit_code == 0


@pytest.mark.parametrize("token", ["two words", "a\nb", "tökén"])
def test_an_invalid_token_is_not_shown(dataset, server, monkeypatch, token):
    monkeypatch.setenv(records.TOKEN, token)
    text = refused(get(), 1, "ZENODO_TOKEN: contains spaces or other characters that no token has")
    assert token not in text and not server.seen


def test_no_network(server, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(records, "API", f"http://127.0.0.1:{closed.getsockname()[1]}/")
        refused(get(), 3, "cannot be reached: [Errno 111] Connection refused", "Is this machine connected")


@pytest.mark.parametrize("status, words", [
    (404, "Is there a record with that number?"), (410, "Is there a record with"), (429, "Try again later"),
    (503, "Try again later"),
])  # fmt: skip
def test_other_answers_of_the_api(dataset, server, status, words):
    server.status = status
    refused(get(), 3, f"answered {status}", words)


# --------------------------------------------------------------------- records of another shape


@pytest.mark.parametrize("content", [b"<html>Sorry</html>", b"", b"\xff\xfe{", b"[1]", b"3", b"{}", b'{"files": {}}',
                                     b'{"files": []}', b'{"files": null}', b'{"files": "x"}'])  # fmt: skip
def test_an_answer_without_a_list_of_files(server, content):
    server.pages = {f"/api/records/{NUMBER}": content}
    refused(get(), 1, "expected", "Has Zenodo's API changed?", "Download the files by hand from https://zenodo")


@pytest.mark.parametrize("change, words", [
    ({"key": "../x"}, "key"), ({"key": "/etc/x"}, "key"), ({"key": ""}, "key"), ({"key": None}, "key"),
    ({"key": "a\\..\\..\\x"}, "key"), ({"key": "C:\\x"}, "key"), ({"key": "."}, "key"),
    ({"size": -1}, "size"), ({"size": "3"}, "size"), ({"size": True}, "size"),
    ({"checksum": "md5:12"}, "checksum"), ({"checksum": None}, "checksum"),
    ({"checksum": "sha1:" + "0" * 40}, "checksum"), ({"links": {"self": "file:///etc/passwd"}}, "links.self"),
    ({"links": {}}, "links.self"), ({"links": []}, "links.self"),
])  # fmt: skip
def test_files_with_invalid_descriptions(server, change, words):
    publish(server, {"a": b"a"}, files=[{**entry(server, "a", b"a"), **change}, 3])
    refused(get(), 1, f"files[0]: {words}: ", "files[1]: 3; expected an object")
    assert not Path("DATA").exists()


def test_a_name_that_is_listed_twice(server):
    publish(server, {}, files=[entry(server, "a", b"a"), entry(server, "a", b"b")])
    refused(get(), 1, '"a" is listed more than once')


# --------------------------------------------------------------------------------------- space


def test_no_space(dataset, server, monkeypatch):
    usage = download.shutil.disk_usage("/")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    refused(get(), 3, "bytes are needed", "to download, and about", "1,000 are free", "fetch only a part with --only")
    assert not Path("DATA").exists() and requests(server) == ["record"]


def test_no_space_to_unpack(tmp_path, monkeypatch):
    """The unpacked size is known once the archive is downloaded: here a thousand times its size."""
    archive = tmp_path / "big.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(10**6))
    usage = download.shutil.disk_usage("/")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage._replace(free=500_000))
    with pytest.raises(FileError, match="1,000,000 bytes are needed to unpack 1 files, 500,000 are free"):
        unpacking.unpack([archive], tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------ archives


def unpack(tmp_path, *contents):
    paths = []
    for index, content in enumerate(contents):
        paths.append(tmp_path / f"archive{index}.zip")
        paths[-1].write_bytes(content)
    return unpacking.unpack(paths, tmp_path / "out" / "data")


def demand_refusal(tmp_path, *contents):
    """All problems; nothing is written, here or elsewhere."""
    before = files_in(tmp_path)
    with pytest.raises(ValidationError) as caught:
        unpack(tmp_path, *contents)
    new_files = set(files_in(tmp_path)) - set(before) - {f"archive{index}.zip" for index in range(len(contents))}
    assert not new_files and all(problem.hint for problem in caught.value.problems)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/x", "//x", "\\x", "..\\x", "a\\..\\..\\x", "C:x", "c:\\x", "./.."]
)
def test_paths_that_lead_elsewhere(tmp_path, name):
    [problem] = demand_refusal(tmp_path, pack({"good": b"1", name: b"2"}))
    assert "archive0.zip › " in problem and ("leads outside its folder" in problem or "is an absolute path" in problem)


@pytest.mark.parametrize("kind, word", [(stat.S_IFLNK, "a link"), (stat.S_IFIFO, "a special file")])
def test_links_and_special_files(tmp_path, kind, word):
    [problem] = demand_refusal(tmp_path, pack({"a": b"/etc/passwd"}, external_attr=(kind | 0o644) << 16))
    assert f"› a: is {word}; expected regular files only" in problem


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_name_twice(tmp_path):
    buffer = io.BytesIO(pack({"d/a": b"1"}))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("d/./a", b"1")
        archive.writestr("d/a/b", b"2")
    problems = demand_refusal(tmp_path, buffer.getvalue())
    assert (
        len(problems) == 2 and "has the same target as" in problems[0] and "other entries need a folder" in problems[1]
    )


def test_one_file_in_two_archives(tmp_path):
    """The same content is no problem, different content is."""
    assert unpack(tmp_path, pack({"d/a": b"1"}), pack({"d/a": b"1"})) == unpacking.Outcome(1, 0)
    [problem] = demand_refusal(tmp_path, pack({"e/a": b"1"}), pack({"e/a": b"2"}))
    assert "has the same target as" in problem and "archive1.zip › e/a" in problem


def test_existing_files_are_never_overwritten(tmp_path):
    folder = tmp_path / "out" / "data"
    (folder / "d" / "folder").mkdir(parents=True)
    (folder / "d" / "same").write_bytes(b"1")
    (folder / "d" / "longer").write_bytes(b"mine, longer")
    (folder / "d" / "other").write_bytes(b"9")
    (folder / "d" / "file").write_bytes(b"")
    (folder / "d" / "dangling").symlink_to("nowhere")
    names = ["same", "longer", "other", "folder", "file/inside", "dangling", "new"]
    problems = demand_refusal(tmp_path, pack({f"d/{name}": b"1" for name in names}))
    assert [problem.split(":")[0].rpartition("/")[2] for problem in problems] == [
        "longer", "other", "folder", "file", "dangling",
    ]  # fmt: skip
    assert not (folder / "d" / "new").exists() and (folder / "d" / "other").read_bytes() == b"9"


def test_nothing_is_unpacked_if_anything_is_wrong(tmp_path):
    problems = demand_refusal(tmp_path, pack({"a": b"1"}), b"no zip", pack({"../b": b"1"}))
    assert len(problems) == 2 and "archive1.zip: cannot be read as a zip" in problems[0]


def test_archives_that_python_cannot_read(tmp_path):
    """Encrypted, or deflate64, which Windows uses for large files. After unpacking by hand, they are no problem."""
    encrypted, deflate64 = pack({"d/a": b"1", "d/b": b"1"}), pack({"d/c": b"1"})
    for header, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags, and after them the method
        encrypted = patch(encrypted, header, place, 1)
        deflate64 = patch(deflate64, header, place + 2, 9)
    problems = demand_refusal(tmp_path, encrypted, deflate64)
    assert "2 files are encrypted" in problems[0] and "by hand with the password" in problems[0]
    assert "1 files are compressed by method 9" in problems[1] and len(problems) == 2
    (tmp_path / "out/data/d").mkdir(parents=True)
    for name in "abc":
        (tmp_path / "out/data/d" / name).write_bytes(b"1")
    assert unpack(tmp_path, encrypted, deflate64) == unpacking.Outcome(0, 3)


def patch(content, header, place, value):
    """The byte so far behind each header, set."""
    changed = bytearray(content)
    for match in re.finditer(re.escape(header), content):
        changed[match.start() + place] = value
    return bytes(changed)


def test_a_damaged_file_leaves_those_before_it_whole(tmp_path):
    content = pack({"d/a": b"first", "d/b": b"second"})
    with pytest.raises(ValidationError, match=r"d/b: is damaged: Bad CRC-32"):
        unpack(tmp_path, content.replace(b"second", b"sEcond"))
    assert files_in(tmp_path / "out") == ["data/d/a"]
    assert unpack(tmp_path, content) == unpacking.Outcome(1, 1), "the same call goes on"


def test_an_interrupt_leaves_no_partial_file(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    content = pack({"d/a": b"first"})
    with monkeypatch.context() as patching, pytest.raises(KeyboardInterrupt):
        patching.setattr(unpacking.os, "replace", stop)
        unpack(tmp_path, content)
    assert files_in(tmp_path / "out") == []
    (tmp_path / "out/data/d/.a.part").write_bytes(b"of a run that was killed, and longer")
    assert unpack(tmp_path, content) == unpacking.Outcome(1, 0)
    assert files_in(tmp_path / "out") == ["data/d/a"] and (tmp_path / "out/data/d/a").read_bytes() == b"first"


def test_names_that_differ_only_in_case(tmp_path, monkeypatch):
    """On a disk that ignores case, the second file exists already when it is about to be written."""
    monkeypatch.setattr(unpacking, "_compare", lambda entries: (entries, []))
    (tmp_path / "out/data").mkdir(parents=True)
    (tmp_path / "out/data/a").write_bytes(b"first")
    with pytest.raises(ValidationError, match="under a name that differs in case"):
        unpack(tmp_path, pack({"a": b"second"}))
    assert (tmp_path / "out/data/a").read_bytes() == b"first"


@pytest.mark.parametrize("names, expected", [
    (["only.csv"], ["only.csv"]),
    (["top/a", "top/in/b", "top/"], ["top/a", "top/in/b"]),
    (["a", "b"], ["archive0/a", "archive0/b"]),
    (["x/a", "y/b"], ["archive0/x/a", "archive0/y/b"]),
    (["top\\a", "top\\b"], ["top/a", "top/b"]),
    (["top/a", "__MACOSX/top/._a", "top/.DS_Store", ".DS_Store"], ["top/a"]),
    ([], []),
])  # fmt: skip
def test_where_files_go(tmp_path, names, expected):
    unpack(tmp_path, pack(dict.fromkeys(names, b"")))
    assert files_in(tmp_path / "out" / "data") == expected


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/data").write_bytes(b"a file")
    problems = demand_refusal(tmp_path, pack({"d/a": b"1"}))
    assert len(problems) == 1 and "is a file; expected a folder" in problems[0]
