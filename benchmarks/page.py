"""The page's frames per second in Chromium before a camera of drawn faces, and the processor's time for each."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import psutil  # type: ignore[import-untyped]
from playwright.sync_api import sync_playwright

from benchmarks.common import finish, parser
from drawn_faces.group import draw_group
from helpers.export.page import SHIPPED_CAMERA_MODEL, write_page


def film(path: Path, count: int) -> None:
    """Write some frames of drawn people who move to and fro, which Chromium takes for a camera."""
    people = draw_group(count)
    scale = min(480 / people.shape[0], 640 / people.shape[1])
    people = cv2.resize(people, None, fx=scale, fy=scale)
    rest = 480 - people.shape[0], 640 - people.shape[1]
    scene = cv2.copyMakeBorder(people, rest[0], 0, 0, rest[1], cv2.BORDER_REPLICATE)
    moved = (np.roll(scene, round(8 * np.sin(step / 10 * np.pi)), axis=1) for step in range(20))
    path.write_bytes(b"".join(cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes() for frame in moved))


def spent() -> float:
    """Seconds that the browser's processes have computed; the camera's frames are among what they do."""
    return sum(sum(process.cpu_times()[:2]) for process in psutil.Process().children(recursive=True))


def main() -> None:
    """Measure, and print the last line."""
    made = parser(__doc__)
    made.add_argument("--model", type=Path, help="an exported file (default: the shipped one)")
    made.add_argument("--people", type=int, default=1, help="before the camera (default: %(default)s)")
    made.add_argument("--seconds", type=float, default=20, help="of a round (default: %(default)s)")
    options = made.parse_args()
    camera = "--use-fake-ui-for-media-stream --use-fake-device-for-media-stream --use-file-for-fake-video-capture="
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        film(Path(folder, "faces.mjpeg"), options.people)
        page = write_page(options.model or SHIPPED_CAMERA_MODEL, Path(folder, "try_it.html"))
        switches = ["--no-sandbox", *f"{camera}{folder}/faces.mjpeg".split()]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=switches)
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        # Counted where each answer is published.
        tab.add_init_script(
            "let last; window.told = { frames: 0, detecting: 0, milliseconds: 0 };"
            "Object.defineProperty(window, 'lastAnswers', { get: () => last, set(value) { last = value; if (value) {"
            "told.frames++; told.detecting += value.detecting; told.milliseconds += value.milliseconds; } } })"
        )
        tab.goto(page.as_uri())
        tab.wait_for_selector("html[data-ready]", timeout=120_000)
        tab.click("#camera")
        time.sleep(options.seconds)  # until the browser has compiled what runs often
        rounds = []
        for number in range(options.rounds):
            before, start, used = tab.evaluate("({ ...told })"), time.monotonic(), spent()
            time.sleep(options.seconds)
            after, elapsed, used = tab.evaluate("({ ...told })"), time.monotonic() - start, spent() - used
            frames, found, read = (after[name] - before[name] for name in ("frames", "detecting", "milliseconds"))
            each = [frames / elapsed, *(1000 * value / frames for value in (used, found / 1000, (read - found) / 1000))]
            print("round {}: {:.1f} frames/s, {:.0f} ms of the processor each; detecting {:.0f} ms, reading {:.0f} ms"
                  .format(number + 1, *each), flush=True)  # fmt: skip
            rounds.append(each)
        browser.close()
    names = ("frames_per_s", "cpu_ms", "detecting_ms", "reading_ms")
    finish(None, **dict(zip(names, np.median(rounds, axis=0).round(1).tolist(), strict=True)))


if __name__ == "__main__":
    main()
