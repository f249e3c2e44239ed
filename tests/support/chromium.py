"""A headless Chromium for tests, spoken to over its DevTools socket: no network, one page, what a reader would see."""

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tornado.websocket import WebSocketClientConnection, websocket_connect

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REQUIRED = os.environ.get("FOOTPRINT_REQUIRE_CHROMIUM") == "1"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
)
START_SECONDS = 60

needs_chromium = pytest.mark.skipif(
    PROGRAM is None and not REQUIRED, reason="no Chromium here; on Debian: apt-get install chromium"
)


@contextmanager
def browser(profile: Path) -> Iterator[str]:
    """A running Chromium with a fresh profile; yields the address of its DevTools socket."""
    assert PROGRAM, "FOOTPRINT_REQUIRE_CHROMIUM=1 but no Chromium is installed"
    command = [PROGRAM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port_file, deadline = profile / "DevToolsActivePort", time.monotonic() + START_SECONDS
        while not (port_file.exists() and port_file.read_text().count("\n")):
            assert process.poll() is None, f"Chromium ended with status {process.returncode}"
            assert time.monotonic() < deadline, f"Chromium did not start within {START_SECONDS} s"
            time.sleep(0.05)
        port, path = port_file.read_text().split()
        yield f"ws://127.0.0.1:{port}{path}"
    finally:
        process.terminate()
        process.wait(timeout=30)


class Tab:
    """One tab under control: commands to it, and every event it sent."""

    def __init__(self, socket: WebSocketClientConnection) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self._session: str | None = None
        self.events: list[dict] = []

    async def command(self, method: str, **parameters: object) -> dict:
        """Send a command and wait for its result, keeping the events that arrive meanwhile."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        await self._socket.write_message(json.dumps(message))
        while True:
            answer = await self._next()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    async def _next(self) -> dict:
        answer = json.loads(await asyncio.wait_for(self._socket.read_message(), timeout=60))
        if "method" in answer:
            self.events.append(answer)
        if answer.get("method") == "Target.attachedToTarget":
            session = answer["params"]["sessionId"]
            for method in ("Network.enable", "Runtime.enable", "Log.enable", "Runtime.runIfWaitingForDebugger"):
                message = {"id": next(self._numbers), "method": method, "sessionId": session}
                await self._socket.write_message(json.dumps(message))
        return answer

    async def hear_workers(self) -> None:
        """From here on, what the page's workers request and complain of is among the events, too."""
        await self.command("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=True, flatten=True)

    async def press(self, key: str) -> None:
        """Press and let go a key, as `Tab`, `Enter` or `ArrowUp`."""
        codes = {"Tab": 9, "Enter": 13, "ArrowUp": 38}
        told = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        text = {"Enter": "\r"}.get(key, "")
        await self.command("Input.dispatchKeyEvent", type="keyDown", text=text, **told)
        await self.command("Input.dispatchKeyEvent", type="keyUp", **told)

    async def write(self, text: str) -> None:
        """Put text where the cursor is, letter by letter."""
        for letter in text:
            await self.command("Input.insertText", text=letter)

    async def attach(self) -> None:
        """Open the tab and have it report requests, console messages and exceptions."""
        target = await self.command("Target.createTarget", url="about:blank")
        attached = await self.command("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self.command(f"{domain}.enable")

    async def open(self, page: Path | str, *, width: int, scheme: str, height: int = 900) -> None:
        """Load a file or an address at this width, in a light or dark colour scheme, and wait until it has settled."""
        phone = width < 600
        await self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.command("Emulation.setEmulatedMedia", features=features)
        self.events.clear()
        await self.command("Page.navigate", url=page.as_uri() if isinstance(page, Path) else page)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            await self._next()

    async def evaluate(self, script: str) -> object:
        """The JSON value of a JavaScript expression in the page."""
        result = await self.command("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def screenshot(self, output: Path) -> None:
        """The whole page as a PNG."""
        shot = await self.command("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        output.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        """Console errors and warnings, uncaught exceptions, and browser log entries since the page was opened."""
        found = []
        for event in self.events:
            parameters = event["params"]
            if event["method"] == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
                found.append(str(parameters["args"]))
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(parameters["exceptionDetails"]))
            if event["method"] == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
                found.append(parameters["entry"]["text"])
        return found

    def requests(self) -> list[str]:
        """Every address the page asked for, itself included."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]


@contextmanager
def tab(profile: Path) -> Iterator[tuple[Tab, asyncio.Runner]]:
    """A tab of a fresh browser and the runner that drives its coroutines."""
    with browser(profile) as address, asyncio.Runner() as runner:
        socket = runner.run(_connected(address))
        opened = Tab(socket)
        runner.run(opened.attach())
        yield opened, runner
        socket.close()


async def _connected(address: str) -> WebSocketClientConnection:
    return await websocket_connect(address, max_message_size=2**28)
