"""Chromium without a network, driven over a pipe by its own DevTools protocol: no package, no port, no other
process.

`--remote-debugging-pipe` reads commands from file descriptor 3 and answers on 4, JSON ended by a zero byte.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--proxy-server=127.0.0.1:9",
    "--remote-debugging-pipe",
)
_PATIENCE_S = 60.0


class Browser:
    """One page. requests: every address it asked for.  complaints: errors and warnings on its console, and
    uncaught exceptions.
    """

    def __init__(self, profile: Path) -> None:
        """Start Chromium with an empty profile."""
        assert CHROMIUM
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._number, self._rest = 0, b""
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        words = [CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        script = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *words],
            pass_fds=(to_read, to_write),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_read)
        os.close(to_write)
        self._session = ""
        found = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in found if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = ""
        try:
            self.call("Browser.close")
        finally:
            os.close(self._write)
            self._process.wait(10)
            os.close(self._read)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        message = {
            "id": self._number,
            "method": method,
            "params": params,
            **({"sessionId": self._session} if self._session else {}),
        }
        os.write(self._write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + _PATIENCE_S
        while True:
            answer = self._next(until)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def open(self, page: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a file in a window of this size, as for somebody who was never here before."""
        self.ask(
            "(() => { try { localStorage.clear(); } catch (error) { /* closed to the blank page */ } })()"
        )
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        self.go(page)

    def go(self, page: Path) -> None:
        """Load a file in the window as it is, as for somebody who follows a link."""
        self.requests, self.complaints = [], []
        self.call("Page.navigate", url=page.absolute().as_uri())
        self.wait_for("document.readyState === 'complete'")

    def ask(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, awaited where it is a promise."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"].get("exception", {}).get("description", str(found)))
        return found["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until an expression is true, also on a page that a link is still leading to."""

        def is_true() -> bool:
            try:
                return bool(self.ask(f"Boolean({expression})"))
            except RuntimeError as error:
                if "navigated" not in str(error):
                    raise
                return False

        until = time.monotonic() + _PATIENCE_S
        while not is_true():
            if time.monotonic() > until:
                raise TimeoutError(f"never true: {expression}; complaints: {self.complaints}")
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Press and release the mouse in the middle of an element."""
        chosen = f"document.querySelector({json.dumps(selector)})"
        box = self.ask(
            f"(() => {{ const one = {chosen}; one.scrollIntoView({{block: 'center', inline: 'center'}}); "
            "const box = one.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def choose(self, selector: str, value: str) -> None:
        """Choose an entry of a list by its value."""
        one = f"document.querySelector({json.dumps(selector)})"
        self.ask(f"{one}.value = {json.dumps(value)}, {one}.dispatchEvent(new Event('change')), true")

    def nameless_controls(self) -> list[str]:
        """Return the roles of controls that a screen reader has no name for."""
        controls = ("button", "link", "combobox", "textbox", "searchbox", "checkbox")
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        roles = ((node["role"]["value"], node) for node in nodes if not node["ignored"])
        return [role for role, node in roles if role in controls and not node["name"]["value"].strip()]

    def press(self, key: str) -> None:
        """Press a key: Tab, Enter, Space."""
        code, text = {"Tab": (9, ""), "Enter": (13, "\r"), "Space": (32, " ")}[key]
        name = " " if key == "Space" else key
        self.call(
            "Input.dispatchKeyEvent",
            type="keyDown",
            key=name,
            code=key,
            windowsVirtualKeyCode=code,
            text=text,
        )
        self.call("Input.dispatchKeyEvent", type="keyUp", key=name, code=key, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def draw_all(self) -> None:
        """Keep one picture after another in view until it is drawn: what is scrolled past between two frames,
        the page never sees.
        """
        for number in range(self.ask("document.querySelectorAll('[data-picture]').length")):
            one = f"document.querySelectorAll('[data-picture]')[{number}]"
            self.wait_for(f"({one}.scrollIntoView(), {one}.dataset.drawn)")
        self.ask("scrollTo(0, 0)")

    def hold_frames(self, seconds: float) -> None:
        """Let the page run but paint nothing for a while, as on a machine that is busy: the process that
        paints is stopped.
        """
        own = psutil.Process(self._process.pid).children(recursive=True)
        painter = next(child for child in own if "--type=gpu-process" in child.cmdline())
        painter.suspend()
        threading.Timer(seconds, painter.resume).start()

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Save what is in view, or the whole page."""
        shown = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(shown["data"]))

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._read], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError("Chromium does not answer")
            piece = os.read(self._read, 1 << 20)
            if not piece:
                raise RuntimeError("Chromium ended")
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(line)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        method, params = event.get("method", ""), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(str([value.get("value") for value in params["args"]]))
