"""Downloads go through the real kagglehub, to a small server on this machine that plays Kaggle and Colab's cache."""

import hashlib
import http.server
import io
import json
import os
import re
import threading
import zipfile
from base64 import b64encode
from pathlib import Path

import kagglehub.config
import numpy as np
import pytest
import requests
from kagglesdk import kaggle_env

from helpers.data import download
from helpers.data.download import fetch, fetch_all
from helpers.data.sources import SOURCES
from helpers.data.store import pack
from helpers.files import InputError


class Kaggle(http.server.ThreadingHTTPServer):
    """Plays Kaggle's API and storage. ``archives`` holds zip files by slug; ``faults`` what goes wrong next."""

    allow_reuse_address = True

    def __init__(self):
        self.archives: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.colab: dict[str, int] = {}  # the status with which Colab's cache answers, by slug
        super().__init__(("localhost", 0), Handler)

    @property
    def address(self) -> str:
        return f"localhost:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status: int, body: bytes = b"", **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
        self.server.requests.append(self.path)
        slug = asked.get("datasetSlug", asked.get("dataset"))
        if self.path.startswith("/kagglehub/"):
            status = self.server.colab.get(slug, 404)
            self.answer(status, json.dumps({"slug": slug}).encode() if status == 200 else b"")
        elif slug not in self.server.archives:
            self.answer(404)
        elif self.server.faults and self.server.faults[0].isdigit():
            self.answer(int(self.server.faults.pop(0)), b"{}")
        elif self.path.endswith("/GetDataset"):
            self.answer(200, json.dumps({"currentVersionNumber": 3}).encode(), Content_Type="application/json")
        else:
            self.answer(302, Location=f"http://{self.server.address}/storage/{slug}.zip")

    def do_GET(self):
        body = self.server.archives[Path(self.path).stem]
        start = int(re.findall(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[0])
        self.server.requests.append(f"GET from {start}")
        fault = self.server.faults.pop(0) if self.server.faults else ""
        headers = {"Accept_Ranges": "bytes", "Content_Length": str(len(body) - start)}
        if fault == "damaged":
            body = body[:100] + bytes(len(body) - 200) + body[-100:]
        if fault != "damaged":
            headers["x_goog_hash"] = f"md5={b64encode(hashlib.md5(body).digest()).decode()}"
        self.send_response(206 if start else 200)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body[start : len(body) * 6 // 10] if fault == "cut" else body[start:])


@pytest.fixture
def kaggle(monkeypatch, tmp_path, sample_folders):
    """The server, with the drawn datasets as archives, and kagglehub pointed at it."""
    server = Kaggle()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, source in SOURCES.items():
        buffer = io.BytesIO()
        noise = np.random.default_rng(0).bytes(3_000_000)  # kagglehub writes by the megabyte, and resumes from those
        with zipfile.ZipFile(buffer, "w") as archive:
            for path in sorted(sample_folders[name].rglob("*")):
                archive.write(path, path.relative_to(sample_folders[name]))
            archive.writestr(NOISE, noise)
        server.archives[source.handle.split("/")[1]] = buffer.getvalue()
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, f"http://{server.address}")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("TBE_RUNTIME_ADDR", "DISABLE_COLAB_CACHE", "KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "_WAITS", (0.01, 0.01, 0.01))
    yield server
    server.shutdown()
    server.server_close()


NOISE = "noise.bin"


def files(folder: Path) -> set[str]:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return found - {NOISE}


def test_a_dataset_arrives_whole_and_is_found_again_without_a_download(kaggle, sample_folders):
    place = fetch("rafdb")
    assert files(place) == files(sample_folders["rafdb"])
    kaggle.requests.clear()
    assert fetch("rafdb") == place and not any("GET" in request for request in kaggle.requests)


def test_a_cut_download_goes_on_by_itself_where_it_stopped(kaggle, sample_folders, capsys):
    kaggle.faults = ["cut", "", "cut"]
    place = fetch("rafdb")
    assert files(place) == files(sample_folders["rafdb"])
    starts = [int(request.split()[-1]) for request in kaggle.requests if "GET" in request]
    assert starts[0] == 0 and max(starts) > 0, "not from the beginning again"
    assert capsys.readouterr().out.count("raf-db-dataset failed (") == 2


@pytest.mark.parametrize("fault", ["503", "500", "429"])
def test_a_busy_server_is_asked_again(kaggle, fault):
    kaggle.faults = [fault, fault]
    assert fetch("rafdb").is_dir()


@pytest.mark.parametrize("fault", ["401", "403"])
def test_a_refusal_is_not_repeated_and_told_in_one_sentence(kaggle, fault):
    kaggle.faults = [fault] * 9
    with pytest.raises(InputError, match=f"did not deliver shuvoalok/raf-db-dataset .*{fault}") as caught:
        fetch("rafdb")
    assert len(kaggle.faults) == 8 and "\n" not in str(caught.value)


def test_a_server_that_stays_away_is_given_up_after_four_attempts(kaggle):
    kaggle.faults = ["503"] * 9
    with pytest.raises(InputError, match=r"did not deliver shuvoalok/raf-db-dataset \("):
        fetch("rafdb")
    assert len(kaggle.faults) == 5


def test_a_damaged_archive_is_thrown_away_and_fetched_anew(kaggle, sample_folders):
    kaggle.faults = ["damaged"]
    assert files(fetch("rafdb")) == files(sample_folders["rafdb"])


@pytest.mark.parametrize("kept", [0, 1_000_000])
def test_a_damaged_archive_of_the_right_size_that_an_earlier_call_left_is_not_believed(
    kaggle, sample_folders, tmp_path, kept
):
    # kagglehub takes a file of the expected size for complete, without a look at its content.
    whole = kaggle.archives["raf-db-dataset"]
    archive = tmp_path / "cache" / "datasets" / "shuvoalok" / "raf-db-dataset" / "3.archive"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(bytes(len(whole) - kept) + whole[len(whole) - kept :])
    assert files(fetch("rafdb")) == files(sample_folders["rafdb"])


@pytest.mark.parametrize("status", [403, 500, None])
def test_colab_s_cache_is_passed_by_where_it_fails(kaggle, monkeypatch, status, capsys):
    monkeypatch.setenv("TBE_RUNTIME_ADDR", kaggle.address if status else "localhost:1")  # nothing listens there
    kaggle.colab = {"raf-db-dataset": status}
    try:
        assert fetch("rafdb").is_dir()
    finally:
        os.environ.pop("DISABLE_COLAB_CACHE", None)
    assert "Colab's cache failed for shuvoalok/raf-db-dataset" in capsys.readouterr().out


def test_colab_s_cache_is_read_in_place_although_nothing_may_be_written_there(
    kaggle, monkeypatch, tmp_path, sample_folders
):
    mounted = tmp_path / "input" / "raf-db-dataset"
    mounted.parent.mkdir()
    mounted.symlink_to(sample_folders["rafdb"])
    monkeypatch.setenv("TBE_RUNTIME_ADDR", kaggle.address)
    monkeypatch.setenv("COLAB_CACHE_MOUNT_FOLDER", str(tmp_path / "input"))
    kaggle.colab = {"raf-db-dataset": 200}
    before = files(sample_folders["rafdb"])
    folders, _ = fetch_all("kaggle", ["rafdb"], tmp_path)
    assert folders == {"rafdb": mounted} and len(pack(folders, tmp_path / "faces")) > 0
    assert files(sample_folders["rafdb"]) == before and not [r for r in kaggle.requests if "GET" in r]


def test_one_missing_dataset_and_one_of_a_wrong_layout_leave_the_others_usable_and_say_what_is_lost(kaggle, tmp_path):
    del kaggle.archives["utkface-new"]
    kaggle.archives["raf-db-dataset"] = kaggle.archives["fer2013"]
    folders, problems = fetch_all("kaggle", None, tmp_path)
    assert set(folders) == {"fer2013", "affectnet"}
    text = " ".join(problems)
    assert "did not deliver jangedoo/utkface-new" in text and "Without it age and gender are not learned" in text
    assert "does not hold RAF-DB" in text and "Without it the emotion criterion cannot be judged" in text


def test_without_kaggle_it_is_asked_once_and_each_dataset_costs_one_line(kaggle, tmp_path, monkeypatch):
    # Incident: four attempts with pauses for each of four datasets took 200 seconds and filled the screen.
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, "http://localhost:1")  # none listens
    monkeypatch.setattr(download.time, "sleep", lambda seconds: pytest.fail("it waited for nothing"))
    asked = []
    head = requests.head
    monkeypatch.setattr(requests, "head", lambda *args, **options: asked.append(args) or head(*args, **options))
    with pytest.raises(InputError) as caught:
        fetch_all("kaggle", None, tmp_path)
    *lines, way_out = str(caught.value).splitlines()
    assert len(asked) == 1 and len(lines) == len(SOURCES)
    for line, source in zip(lines, SOURCES.values(), strict=True):
        assert line == f"Kaggle did not deliver {source.handle} (no connection). Without it {source.lost}."
    assert 'SOURCE = "sample"' in way_out and "dataset_paths.json" in way_out


def test_fewer_files_than_the_dataset_holds_are_noticed(kaggle, tmp_path):
    folders, (problem,) = fetch_all("kaggle", ["rafdb"], tmp_path)
    assert "RAF-DB arrived with" in problem and "it holds 15,339 images" in problem and folders["rafdb"].is_dir()


def test_keys_are_taken_in_the_documented_order_and_never_shown(kaggle, monkeypatch, tmp_path, capsys):
    home = tmp_path / "home" / ".kaggle"
    home.mkdir(parents=True)
    seen = []

    def credentials():
        found = kagglehub.config.get_kaggle_credentials()
        return found and (found.api_key or found.key)

    monkeypatch.setattr(kagglehub.config, "DEFAULT_KAGGLE_CREDENTIALS_FOLDER", str(home))
    (home / "kaggle.json").write_text('{"username": "me", "key": "secret-file"}')
    seen.append(credentials())
    monkeypatch.setenv("KAGGLE_USERNAME", "me")
    monkeypatch.setenv("KAGGLE_KEY", "secret-pair")
    seen.append(credentials())
    (home / "access_token").write_text("secret-token-file")
    seen.append(credentials())
    monkeypatch.setenv("KAGGLE_API_TOKEN", "secret-token")
    seen.append(credentials())
    assert seen == ["secret-file", "secret-pair", "secret-token-file", "secret-token"]
    kaggle.faults = ["403"] * 9
    with pytest.raises(InputError) as caught:
        fetch("rafdb")
    printed = capsys.readouterr()
    assert "secret" not in str(caught.value) + printed.out
