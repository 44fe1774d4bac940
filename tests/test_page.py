"""The page answers as the exported file does, in a real browser, from the disk, and asks nobody."""

import base64
import importlib.util
import io
import json
import re
import shutil
import sys
import time
import types
import urllib.request

import numpy as np
import onnx
import pytest
from PIL import Image

from drawn_faces.face import draw_face
from helpers.__main__ import main
from helpers.export import page as page_module
from helpers.export.graph import EXPORTS, export_graph, open_session
from helpers.export.page import CAMERA_DETECTOR, open_page, write_page
from helpers.export.predictor import PredictorError
from helpers.files import InputError
from helpers.runs.run import Run
from helpers.tasks import TASKS

CHROMIUM = shutil.which("chromium")
PATIENCE = 300  # seconds: a test's machine may have other work

needs_browser = pytest.mark.skipif(
    not (CHROMIUM and importlib.util.find_spec("playwright")),
    reason="the page was not opened, since no chromium or no playwright was found",
)


@pytest.fixture(scope="module")
def model(trained, tmp_path_factory):
    """A trained run's exported file."""
    run = Run.open(shutil.copytree(trained.folder, tmp_path_factory.mktemp("exported") / "tiny"))
    return export_graph(run)


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    return write_page(model, tmp_path_factory.mktemp("pages") / "try_it.html")


def scene(faces, width=640, height=480) -> np.ndarray:
    """A picture with drawn faces, each given as left, top, side, emotion, age and gender."""
    rng = np.random.default_rng(3)
    picture = np.linspace((110, 120, 130), (190, 185, 180), height)[:, None].repeat(width, 1).astype(np.uint8)
    for left, top, side, *labels in faces:
        picture[top : top + side, left : left + side] = draw_face(rng, *labels, size=side)
    return picture


GROUP = scene([(30, 60, 260, 3, 30, 1), (360, 20, 200, 0, 60, 0), (390, 250, 220, 5, 8, 1)])
PAIR = scene([(30, 80, 260, 3, 30, 1), (350, 100, 240, 6, 55, 0)])


# ---------------------------------------------------------------- the file


def test_the_page_is_one_small_file_that_names_no_address_to_load_from(model, written):
    text = written.read_text()
    spare = 6_000_000 + 1.4 * model.stat().st_size + 1.4 * CAMERA_DETECTOR.stat().st_size
    assert written.stat().st_size < spare, "30 MB for a model of 9 MB leave no more"
    # What is packed is no address, and that in a licence is text.
    outside = re.sub(r'<script type="application/gzip".*?</script>|<pre>.*?</pre>', "", text, flags=re.S)
    assert "BlazeFace" in text and "Apache License" in text, "the detector's licence goes wherever it goes"
    loaded = re.findall(r"""(?:src|href|action|poster|data)\s*=\s*["']?([^"'\s>]+)|url\(\s*["']?([^"')]+)""", outside)
    assert {first or second for first, second in loaded} <= {"data:,"}
    assert not re.search(r"@import|\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon|EventSource|https?://", outside)
    assert "default-src 'none'" in outside and "sourceMappingURL" not in outside


def test_the_same_files_make_the_same_page(model, written, tmp_path):
    assert write_page(model, tmp_path / "again.html").read_bytes() == written.read_bytes()


def test_classes_and_terms_come_from_the_model_s_metadata(model, tmp_path):
    graph = onnx.load(model)
    told = {entry.key: entry.value for entry in graph.metadata_props}
    told |= {"emotion": "a,b,c,d,e,f,</script>", "terms_of_the_data": "utkface: non-commercial research only"}
    onnx.helper.set_model_props(graph, told)
    onnx.save(graph, tmp_path / "model.onnx")
    text = write_page(tmp_path / "model.onnx", tmp_path / "try_it.html").read_text()
    about = json.loads(re.search(r'id="about">(.*?)</script>', text, re.S)[1])
    assert about["tasks"][0]["classes"] == ["a", "b", "c", "d", "e", "f", "</script>"]
    assert about["model"]["terms_of_the_data"] == "utkface: non-commercial research only"
    assert [task["name"] for task in about["tasks"]] == list(TASKS) and about["exports"] == EXPORTS


def test_files_that_make_no_page_are_named_in_a_sentence(model, tmp_path):
    for files, words in (
        ((tmp_path / "none.onnx",), "does not exist"),
        ((CAMERA_DETECTOR,), "another kind of model: it has picture, boxes, scores"),
        ((model, tmp_path / "none.onnx"), r"none.onnx does not exist"),
        ((model, model), "picture, boxes, scores are expected"),
    ):
        with pytest.raises((InputError, PredictorError), match=words):
            write_page(files[0], tmp_path / "try_it.html", *files[1:])
    (tmp_path / "half.onnx").write_bytes(model.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"half.onnx is damaged"):
        write_page(tmp_path / "half.onnx", tmp_path / "try_it.html")
    assert not (tmp_path / "try_it.html").exists()


def test_the_line_writes_the_page_of_a_run_or_of_a_file(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FACE_WORKSPACE", str(tmp_path / "workspace"))
    assert main(["page", "--run", "tiny", "--save_dir", str(model.parent.parent)]) == 0
    assert main(["page", "--model", str(model)]) == 0
    pages = [model.parent / "try_it.html", tmp_path / "workspace" / "try_it.html"]
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert f"{pages[1]} has " in capsys.readouterr().out
    assert main(["page", "--run", "none"]) == 2 and "Run notebook 06 first" in capsys.readouterr().err


def test_on_colab_the_kernel_serves_the_page_in_a_window(written, monkeypatch, capsys):
    opened = []
    colab = types.ModuleType("google.colab")
    colab.output = types.SimpleNamespace(serve_kernel_port_as_window=lambda port, path: opened.append((port, path)))
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab_2026")
    open_page(written)
    ((port, path),) = opened
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
        assert answer.read() == written.read_bytes()
    assert capsys.readouterr() == ("", ""), "a server's lines do not belong into a cell"
    monkeypatch.setattr(page_module, "place", lambda: "local")
    open_page(written)
    assert str(written) in capsys.readouterr().out and len(opened) == 1


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium with a camera that shows two drawn faces, and allows it."""
    from playwright.sync_api import sync_playwright

    film = tmp_path_factory.mktemp("camera") / "faces.mjpeg"
    frames = []
    for step in range(20):
        content = io.BytesIO()
        moved = np.roll(PAIR, round(8 * np.sin(step / 20 * 2 * np.pi)), axis=1)
        Image.fromarray(moved).save(content, "JPEG", quality=95)
        frames.append(content.getvalue())
    film.write_bytes(b"".join(frames))
    camera = [f"--use-{what}" for what in ("fake-ui-for-media-stream", "fake-device-for-media-stream",
                                           f"file-for-fake-video-capture={film}")]  # fmt: skip
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *camera])
        yield browser
        browser.close()


class Opened:
    """A page in a browser without a network, and what it asked for."""

    def __init__(self, browser, path, script="", **context):
        self.context = browser.new_context(offline=True, **context)
        self.context.set_default_timeout(1000 * PATIENCE)
        self.tab, self.asked, self.errors = self.context.new_page(), [], []
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.on("pageerror", lambda error: self.errors.append(error))
        if script:
            self.tab.add_init_script(script)
        self.tab.goto(path.as_uri())
        self.tab.wait_for_selector("html[data-ready]")

    def until(self, expression):
        """The value of an expression once it is one; the page's rules forbid what Playwright waits with."""
        end = time.monotonic() + PATIENCE
        while not (value := self.tab.evaluate(expression)):
            assert time.monotonic() < end, f"{expression} stays {value}; the page says: {self.said()}"
            time.sleep(0.1)
        return value

    def said(self) -> str:
        return self.tab.inner_text("#message")

    def read(self, picture, name="picture.png"):
        """What the page answers for a picture, an array or the bytes of a file."""
        self.tab.evaluate("window.lastAnswers = undefined")
        content = io.BytesIO()
        if isinstance(picture, np.ndarray):
            Image.fromarray(picture).save(content, "PNG")
        data = content.getvalue() if isinstance(picture, np.ndarray) else picture
        self.tab.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": data})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()
        assert not self.errors


def largest_difference(model, picture, answers, step=1) -> float:
    """Of what the page read in a picture from the exported file's answers, in units of parity; boxes must be equal.

    Args:
        step: the detector saw every so many pixels.
    """
    seen = np.ascontiguousarray(picture[::step, ::step])
    boxes, scores = open_session(CAMERA_DETECTOR).run(["boxes", "scores"], {"picture": seen})
    session, worst = open_session(model), 0.0
    for face, box, score in zip(answers["faces"], (boxes * step).tolist(), scores, strict=True):
        assert face["box"] == box and face["score"] == pytest.approx(score, abs=1e-3)
        left, top, right, bottom = box
        outputs = session.run(EXPORTS, {"faces": picture[None, top:bottom, left:right]})
        for name, wanted in zip(EXPORTS, outputs, strict=True):
            if name in face:  # there was time for it
                unit = next(task for task in TASKS.values() if name in task.exports).parity_unit
                worst = max(worst, float(np.abs(np.array(face[name]) - wanted[0]).max()) / unit)
    return worst


@needs_browser
def test_the_page_answers_for_a_picture_as_the_exported_file_does_and_asks_nobody(browser, model, written, tmp_path):
    with Opened(browser, written, viewport={"width": 1280, "height": 900}) as page:
        page.read(GROUP)
        answers = page.until("window.lastAnswers")
        page.tab.screenshot(path=tmp_path / "desktop.png", full_page=True)
        assert page.tab.locator("#faces button").count() == 3
        shown = page.tab.inner_text("#panel")
        page.tab.locator("#faces button").nth(1).click()
        assert page.tab.inner_text("#panel") != shown, "the other face's answers"
        first = page.asked.pop(0)
    assert first == written.as_uri() and all(url.startswith(("blob:null/", "data:")) for url in page.asked)
    assert (answers["width"], answers["height"], answers["whole"]) == (640, 480, False)
    assert len(answers["faces"]) == 3 and all(set(EXPORTS) <= set(face) for face in answers["faces"])
    worst = largest_difference(model, GROUP, answers)
    print(f"largest difference {worst:.1e}")
    assert worst <= 1e-3


@needs_browser
def test_the_page_reads_the_camera_until_it_is_paused_or_stopped(browser, written, tmp_path):
    script = "const lend = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);"
    script += "navigator.mediaDevices.getUserMedia = async (which) => (window.lent = await lend(which))"
    with Opened(browser, written, script, viewport={"width": 1280, "height": 900}) as page:
        page.tab.click("#camera")
        answers = page.until("window.lastAnswers?.faces.length === 2 && window.lastAnswers")
        assert answers["source"] == "camera" and max(answers["width"], answers["height"]) == 640
        assert re.fullmatch(r"[\d.]+ frames/s · \d+ ms each", page.until("document.getElementById('rate').textContent"))
        assert page.tab.evaluate("window.framesPerSecond") > 0
        page.until("document.getElementById('said').textContent.startsWith('Face 1: ')")
        page.tab.screenshot(path=tmp_path / "camera.png", full_page=True)
        page.tab.click("#pause")
        time.sleep(1)
        before = page.tab.evaluate("JSON.stringify(window.lastAnswers)")
        time.sleep(1)
        assert page.tab.evaluate("JSON.stringify(window.lastAnswers)") == before
        page.tab.click("#pause")
        page.until(f"JSON.stringify(window.lastAnswers) !== {before!r}")
        page.tab.click("#camera")
        assert page.said().startswith("The camera is off")
        assert page.tab.evaluate("lent.getTracks().map((track) => track.readyState)") == ["ended"]
    assert all(url.startswith(("blob:null/", "data:")) for url in page.asked[1:])


@needs_browser
def test_faces_that_were_read_a_moment_ago_are_found_and_not_read_again(browser, written):
    script = "window.Worker = class extends Worker { constructor(url) { super(url); window.worker = this; } }"
    ask = "(refresh) => new Promise((resolve) => { worker.onmessage = ({ data }) => resolve(data.answer.faces);"
    ask += "const { canvas } = document.getElementById('picture').getContext('2d'), { width, height } = canvas;"
    ask += "const rgba = canvas.getContext('2d').getImageData(0, 0, width, height).data;"
    ask += "worker.postMessage({ rgba, width, height, refresh }); })"
    with Opened(browser, written, script) as page:
        page.read(GROUP)
        page.until("window.lastAnswers")
        rested, read = (page.tab.evaluate(ask, refresh) for refresh in (1e9, 0))
    assert [face["box"] for face in rested] == [face["box"] for face in read] and len(read) == 3
    assert not any("emotion" in face for face in rested) and all("emotion" in face for face in read)


@needs_browser
def test_the_camera_s_frame_is_shown_with_the_answers_for_it(browser, model, written):
    with Opened(browser, written) as page:
        page.tab.click("#camera")
        read = "lastAnswers?.faces.length === 2 && lastAnswers.faces.some((face) => 'emotion' in face)"
        shown, answers = page.until(f"{read} && [document.getElementById('picture').toDataURL(), window.lastAnswers]")
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown.split(",")[1]))).convert("RGB"))
    assert picture.shape == (480, 640, 3) and any(set(EXPORTS) <= set(face) for face in answers["faces"])
    assert largest_difference(model, picture, answers, step=4) <= 1e-3


@needs_browser
@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("NotAllowedError", "The camera was refused"),
        ("NotFoundError", "No camera was found"),
        ("NotReadableError", "used by another program"),
        (None, "opened from the disk, from localhost or over https"),
    ],
)
def test_a_camera_that_does_not_come_is_told_in_a_sentence(browser, written, error, sentence):
    if error:
        script = f"navigator.mediaDevices.getUserMedia = async () => {{ throw new DOMException('', '{error}'); }}"
    else:  # as on a page that came over http
        script = "Object.defineProperty(navigator, 'mediaDevices', { value: undefined })"
    with Opened(browser, written, script) as page:
        page.tab.click("#camera")
        page.until(f"document.getElementById('message').textContent.includes({sentence!r})")
        page.read(GROUP)
        assert page.until("window.lastAnswers")["faces"], "pictures are read all the same"


@needs_browser
def test_a_browser_without_vectors_in_webassembly_is_told_so(browser, written):
    script = "WebAssembly.validate = () => false; document.addEventListener('DOMContentLoaded', () => "
    script += "document.documentElement.setAttribute('data-ready', ''))"
    with Opened(browser, written, script) as page:
        page.until("document.getElementById('message').textContent.includes('too old for this page')")
        assert page.tab.is_disabled("#camera") and page.tab.is_disabled("#choose")


@needs_browser
def test_pictures_without_a_face_and_what_is_no_picture_get_a_sentence(browser, written):
    with Opened(browser, written) as page:
        for data, words in ((b"no picture", "“a.png” cannot be read"), (b"", "it is empty")):
            page.read(data, "a.png")
            page.until(f"document.getElementById('message').textContent.includes({words!r})")
        page.read(np.full((200, 300, 3), 128, np.uint8))
        assert page.until("window.lastAnswers")["faces"] == []
        assert page.said().startswith("No face was found; one below a fifth")
        page.tab.click("#whole")
        answers = page.until("window.lastAnswers?.whole && window.lastAnswers")
        assert answers["faces"][0]["box"] == [0, 0, 300, 200] and "whole picture" in page.said()


@needs_browser
def test_without_a_detector_the_whole_picture_is_the_face_and_the_page_says_so(browser, model, tmp_path):
    with Opened(browser, write_page(model, tmp_path / "try_it.html", None)) as page:
        page.read(GROUP)
        answers = page.until("window.lastAnswers")
        assert [face["box"] for face in answers["faces"]] == [[0, 0, 640, 480]]
        assert "whole picture was read as one face" in page.said()


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_in_both_colour_schemes_and_does_not_jump(browser, written, tmp_path, scheme):
    look = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme, "device_scale_factor": 2}
    where = "['stage', 'camera', 'faces', 'panel', 'said'].map((id) => document.getElementById(id).offsetTop)"
    with Opened(browser, written, **look) as page:
        before = page.tab.evaluate(where)
        page.read(GROUP)
        page.until("window.lastAnswers")
        page.tab.screenshot(path=tmp_path / f"phone_{scheme}.png", full_page=True)
        assert page.tab.evaluate(where) == before
        assert page.tab.evaluate("document.documentElement.scrollWidth") <= 360
        colours = page.tab.evaluate("getComputedStyle(document.body).backgroundColor")
        light = np.mean([int(part) for part in re.findall(r"\d+", colours)[:3]])
        assert light > 200 if scheme == "light" else light < 50


@needs_browser
def test_the_keyboard_reaches_everything_in_order(browser, written):
    with Opened(browser, written) as page:
        page.read(GROUP)
        page.until("window.lastAnswers")
        reached = []
        for _ in range(8):
            page.tab.keyboard.press("Tab")
            reached.append(page.tab.evaluate("document.activeElement.id || document.activeElement.ariaLabel"))
            assert page.tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        assert reached[:7] == ["camera", "choose", "show", "mirror", "Face 1", "Face 2", "Face 3"]
        page.tab.locator("#faces button").nth(2).press("Enter")
        assert page.tab.locator("#faces button").nth(2).get_attribute("aria-pressed") == "true"
