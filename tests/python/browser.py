"""A real browser, headless, driven over the DevTools protocol: what a person sees and clicks, with scripts turned off."""

import asyncio
import base64
import json
import os
import pathlib
import shutil
import subprocess
import time

import aiohttp


def program():
    """Chromium, or None where there is none."""
    return os.environ.get("WEIR_TEST_CHROMIUM") or shutil.which("chromium")


async def until(condition, what, seconds=30):
    """Waits for what a browser does in its own time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"within {seconds} s there was no {what}")
        await asyncio.sleep(0.02)


class Browser:
    """One page of a fresh profile; use as `async with`. Files it downloads land in `downloads`."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.downloads = self.directory / "downloads"
        self.complaints = []
        self.loaded = 0
        self.finished = []
        self.answers = {}
        self.last = 0

    async def __aenter__(self):
        self.downloads.mkdir(parents=True)
        profile = self.directory / "profile"
        # A sandbox inside a container's root account does not start.
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        with open(self.directory / "chromium.log", "wb") as log:
            self.process = subprocess.Popen(
                [program(), *options, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
                stdout=log,
                stderr=log,
            )
        port_file = profile / "DevToolsActivePort"
        await until(lambda: port_file.exists() and "\n" in port_file.read_text(), "browser")
        port = port_file.read_text().splitlines()[0]
        self.http = aiohttp.ClientSession()
        async with self.http.get(f"http://127.0.0.1:{port}/json/list") as response:
            page = next(target for target in await response.json() if target["type"] == "page")
        self.socket = await self.http.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0)
        self.reader = asyncio.create_task(self.read())
        for domain in ["Page", "DOM", "Log"]:
            await self.call(f"{domain}.enable")
        await self.call("Emulation.setScriptExecutionDisabled", value=True)
        behavior = {"behavior": "allow", "downloadPath": str(self.downloads), "eventsEnabled": True}
        await self.call("Browser.setDownloadBehavior", **behavior)
        return self

    async def __aexit__(self, *_):
        self.reader.cancel()
        await self.http.close()
        self.process.terminate()
        self.process.wait(20)

    async def read(self):
        async for message in self.socket:
            said = json.loads(message.data)
            if "id" in said:
                self.answers[said["id"]] = said
            elif said["method"] == "Page.loadEventFired":
                self.loaded += 1
            elif said["method"] == "Log.entryAdded":
                self.complaints.append(said["params"]["entry"])
            elif said["method"] == "Browser.downloadProgress" and said["params"]["state"] == "completed":
                self.finished.append(said["params"]["guid"])

    async def call(self, method, **parameters):
        self.last += 1
        number = self.last
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        await until(lambda: number in self.answers, f"answer to {method}")
        answer = self.answers.pop(number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    async def open(self, url):
        loaded = self.loaded
        await self.call("Page.navigate", url=url)
        await until(lambda: self.loaded > loaded, f"page at {url}")

    async def html(self):
        root = (await self.call("DOM.getDocument", depth=0))["root"]["nodeId"]
        return (await self.call("DOM.getOuterHTML", nodeId=root))["outerHTML"]

    async def click(self, selector):
        """Presses the mouse in the middle of the element, as a person does."""
        root = (await self.call("DOM.getDocument", depth=0))["root"]["nodeId"]
        node = (await self.call("DOM.querySelector", nodeId=root, selector=selector))["nodeId"]
        x0, y0, _, _, x1, y1, _, _ = (await self.call("DOM.getBoxModel", nodeId=node))["model"]["content"]
        place = {"x": (x0 + x1) / 2, "y": (y0 + y1) / 2, "button": "left", "clickCount": 1}
        for kind in ["mousePressed", "mouseReleased"]:
            await self.call("Input.dispatchMouseEvent", type=kind, **place)

    async def screenshot(self, path):
        path.write_bytes(base64.b64decode((await self.call("Page.captureScreenshot"))["data"]))
