"""Chromium as people have it, without a window, driven over its debugging pipe; no driver and no socket between."""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import subprocess
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PATIENCE_SECONDS = 60.0
_AXE = (Path(__file__).parent / "axe" / "axe-4.14.1.min.js").read_text("utf-8")
_RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
_FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # a container's /dev/shm is small
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
)


class Browser:
    """One running Chromium; ends with `close`."""

    def __init__(self, program: str, profile: Path) -> None:
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        root = ("--no-sandbox",) if os.geteuid() == 0 else ()
        # The browser reads from descriptor 3 and writes to 4; the shell only puts them there.
        self._process = subprocess.Popen(
            [
                *("bash", "-c", f'exec "$@" 3<&{to_read} 4>&{to_write}', "bash"),
                *(program, *_FLAGS, *root, f"--user-data-dir={profile}", "about:blank"),
            ],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_read)
        os.close(to_write)
        self._number = 0
        self._buffer = b""
        self.events: list[dict[str, Any]] = []

    def close(self) -> None:
        """End the browser and every process that it started."""
        try:
            os.close(self._to)  # it leaves by itself when nobody speaks to it
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with_children = self._process.pid  # of its own session
            for deadly in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(with_children, deadly)
                except ProcessLookupError:
                    break
                time.sleep(0.2)
            self._process.wait(10)
            os.close(self._from)

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Call a method of the debugging protocol and return its result; events that come meanwhile are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def wait_for(self, method: str) -> dict[str, Any]:
        """Wait until an event was seen; return what it says."""
        while not (seen := [event for event in self.events if event.get("method") == method]):
            self.events.append(self._next())
        said: dict[str, Any] = seen[-1]["params"]
        return said

    def _next(self) -> dict[str, Any]:
        ends = time.monotonic() + _PATIENCE_SECONDS
        while b"\0" not in self._buffer:
            readable, _, _ = select.select([self._from], [], [], max(ends - time.monotonic(), 0))
            piece = os.read(self._from, 1 << 20) if readable else b""
            assert piece, "the browser says nothing more"
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    @contextmanager
    def of_somebody_else(self, downloads: Path) -> Iterator[str]:
        """A browser within the browser, with cookies of its own, which puts what it downloads into a folder."""
        context: str = self.call("Target.createBrowserContext")["browserContextId"]
        self.call(
            "Browser.setDownloadBehavior", behavior="allow", browserContextId=context, downloadPath=str(downloads)
        )
        try:
            yield context
        finally:
            self.call("Target.disposeBrowserContext", browserContextId=context)

    @contextmanager
    def page(
        self,
        path: Path | str,
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        media: str = "screen",
        lang: str = "",
        scripts: bool = True,
        context: str = "",
    ) -> Iterator[Page]:
        """Open a file, or an address, as a person would see it who reads `lang` first; `context` is their browser."""
        whose = {"browserContextId": context} if context else {}
        target = self.call("Target.createTarget", url="about:blank", **whose)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Network", "Log", "Runtime", "Audits"):
            page.call(f"{domain}.enable")
        page.look(width=width, height=height, dark=dark, media=media)
        page.call("Emulation.setFocusEmulationEnabled", enabled=True)  # as if its window were in front
        if lang:
            page.call("Network.setExtraHTTPHeaders", headers={"Accept-Language": lang})
        if not scripts:
            page.call("Emulation.setScriptExecutionDisabled", value=True)
        try:
            page.open(path if isinstance(path, str) else path.absolute().as_uri())
            yield page
        finally:
            self.call("Target.closeTarget", targetId=target)


class Page:
    """One page in a browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the debugging protocol on this page."""
        return self._browser.call(method, self._session, **parameters)

    def look(self, *, width: int = 1280, height: int = 900, dark: bool = False, media: str = "screen") -> None:
        """Show it in a window of this size, by day or by night, also when it is open already."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def open(self, address: str) -> None:
        """Go to an address, and wait until it is there."""
        self._browser.events.clear()
        self.call("Page.navigate", url=address)
        self._browser.wait_for("Page.loadEventFired")

    def follow(self) -> None:
        """Press Enter on what has the focus, and wait for the page to which that leads."""
        self._browser.events.clear()
        self.press("Enter")
        self._browser.wait_for("Page.loadEventFired")

    def leave_by(self, expression: str) -> None:
        """Do something that leads to another page, and wait until that is there."""
        self._browser.events.clear()
        self.value(expression)
        self._browser.wait_for("Page.loadEventFired")

    def value(self, expression: str) -> Any:
        """Return what a JavaScript expression comes to; it runs beside the page, whose policy does not bind it."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def promised(self, expression: str) -> Any:
        """Return what the promise of a JavaScript expression comes to."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def faults(self) -> list[str]:
        """What axe finds, one line each."""
        if not self.value("'axe' in window"):
            self.value(_AXE)
        chosen = json.dumps({"runOnly": _RULES})
        found: list[dict[str, Any]] = self.promised(f"axe.run(document, {chosen}).then(found => found.violations)")
        return [f"{one['id']}: {node['target']} {node['failureSummary']}" for one in found for node in one["nodes"]]

    def press(self, key: str) -> None:
        """Press a key once."""
        code = {"Tab": 9, "Enter": 13, " ": 32, "ArrowDown": 40}[key]
        typed = {"text": {"Enter": "\r", " ": " "}[key]} if key in ("Enter", " ") else {}
        for kind, more in (("keyDown", typed), ("keyUp", {})):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def tab_to(self, selector: str, most: int = 120) -> None:
        """Press Tab, at most so many times, until something has the focus; not once if it has it."""
        for _ in range(most + 1):
            if self.value(f"document.activeElement.matches({json.dumps(selector)})"):
                return
            self.press("Tab")
        raise AssertionError(f"no {most} Tabs lead to {selector}")

    def choose_file(self, path: Path) -> None:
        """Press the key that opens the dialog for a file, on the field that has the focus, and choose one."""
        self.call("Page.setInterceptFileChooserDialog", enabled=True)
        self.press("Enter")
        field = self._browser.wait_for("Page.fileChooserOpened")["backendNodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], backendNodeId=field)

    @property
    def requests(self) -> list[str]:
        """Every address that the page asked for."""
        sent = [event for event in self._browser.events if event.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    @property
    def complaints(self) -> list[dict[str, Any]]:
        """Errors, warnings, policy violations, whatever the browser has to say."""
        said = {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Audits.issueAdded"}
        events = [event for event in self._browser.events if event.get("method") in said]
        return [event for event in events if event["params"].get("entry", {}).get("level") != "info"]

    def picture(self, last: str) -> bytes:
        """Return a picture of the page, down to the end of an element, as a PNG."""
        end = f"document.querySelector({json.dumps(last)}).getBoundingClientRect().bottom"
        width, height = self.value(f"[document.body.clientWidth, Math.ceil({end}) + 14]")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shown = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(shown["data"])

    def colour(self, x: int, y: int) -> tuple[int, ...]:
        """Return red, green, blue of one point as it was drawn."""
        clip = {"x": x, "y": y, "width": 1, "height": 1, "scale": 1}
        picture = base64.b64decode(self.call("Page.captureScreenshot", clip=clip)["data"])
        at, packed = 8, b""
        while at < len(picture):
            size = int.from_bytes(picture[at : at + 4])
            packed += picture[at + 8 : at + 8 + size] if picture[at + 4 : at + 8] == b"IDAT" else b""
            at += size + 12
        return tuple(zlib.decompress(packed)[1:4])  # the first byte says how it is filtered: one point alone is not

    def paper(self, target: Path) -> Path:
        """Print to a PDF."""
        self.call("Emulation.setEmulatedMedia", media="", features=[])  # what was emulated would be printed
        printed = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        target.write_bytes(base64.b64decode(printed["data"]))
        return target
