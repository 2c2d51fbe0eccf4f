"""A headless Chromium, spoken to over two pipes in its debugging protocol: pages as people see them.

`shutil.which("chromium")` says whether there is one; tests that need it are skipped where there is none.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-extensions", "--no-first-run")
PATIENCE = 60.0  # seconds for an answer


class Browser:
    """One page. `with Browser() as page: page.open(path)`."""

    def __enter__(self) -> Browser:
        assert PROGRAM is not None, "no Chromium here"
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs_in, self.out = os.pipe()
        self.back, theirs_out = os.pipe()
        command = [PROGRAM, *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={self.profile.name}", "about:blank"]
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", *command],
            pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self.number, self.waiting, self.session = 0, b"", ""
        self.said: list[str] = []  # errors that the page's script or its policy reported
        target = next(t for t in self.ask("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")
        return self

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.out)
        os.close(self.back)
        self.profile.cleanup()

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        session = {"sessionId": self.session} if self.session else {}
        message = {"id": self.number, "method": method, "params": parameters, **session}
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self.number:
                assert "error" not in found, f"{method}: {found['error']}"
                return found["result"]
            self._note(found)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.waiting:
            ready, _, _ = select.select([self.back], [], [], max(0.0, end - time.monotonic()))
            assert ready, "Chromium does not answer"
            more = os.read(self.back, 1 << 16)
            assert more, "Chromium has ended"
            self.waiting += more
        message, _, self.waiting = self.waiting.partition(b"\0")
        return json.loads(message)

    def _note(self, found: dict[str, Any]) -> None:
        about = found.get("params", {})
        if found.get("method") == "Runtime.exceptionThrown":
            self.said.append(str(about["exceptionDetails"].get("exception", {}).get("description")))
        if found.get("method") == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.said.append(about["entry"]["text"])

    # ---- what a person does -----------------------------------------------------------------------------------------

    def look(self, width: int = 1200, height: int = 900, scheme: str = "light", media: str = "") -> None:
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                 mobile=width < 500)  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", media=media, features=features)

    def open(self, path: Path) -> float:
        """Seconds until the page's first item, or the page where it has none, is there."""
        start = time.perf_counter()
        failed = self.ask("Page.navigate", url=path.resolve().as_uri()).get("errorText")
        assert not failed, f"{path}: {failed}"
        self.wait("document.readyState === 'complete' && (!document.getElementById('index') "
                  "|| document.querySelector('#item .said'))")  # fmt: skip
        return time.perf_counter() - start

    def wait(self, condition: str) -> None:
        """A page that is still being read fails to answer; it is asked again."""
        end = time.monotonic() + PATIENCE
        while not self.run(f"(() => {{ try {{ return Boolean({condition}); }} catch {{ return false; }} }})()"):
            assert time.monotonic() < end, f"never came: {condition}; {self.said}"
            time.sleep(0.01)

    def run(self, script: str) -> Any:
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, keys: Sequence[str]) -> None:
        for key in keys:
            typed = {"text": key} if len(key) == 1 else {}
            for kind in ("keyDown", "keyUp"):
                self.ask("Input.dispatchKeyEvent", type=kind, key=key, **(typed if kind == "keyDown" else {}))

    def point(self, kind: str, x: float, y: float, button: str = "none") -> None:
        """`kind`: mouseMoved, mousePressed or mouseReleased."""
        self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=int(button == "left"),
                 clickCount=int(kind != "mouseMoved"), pointerType="mouse")  # fmt: skip

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.point("mouseMoved", *start)
        self.point("mousePressed", *start, "left")
        self.point("mouseMoved", *end, "left")
        self.point("mouseReleased", *end, "left")

    def picture(self, path: Path, clip: tuple[int, int] | None = None) -> Path:
        """The whole page, or a stretch of it: from which pixel, how many."""
        box = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        top, height = clip or (0, box["height"])
        area = {"x": 0, "y": top, "width": box["width"], "height": height, "scale": 1}
        found = self.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=area)
        path.write_bytes(base64.b64decode(found["data"]))
        return path

    def print(self, path: Path) -> Path:
        path.write_bytes(base64.b64decode(self.ask("Page.printToPDF", printBackground=False)["data"]))
        return path
