"""Drive Debian's headless chromium through chromedriver, by the HTTP requests of W3C's WebDriver."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.census import HANG_LIMIT

OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1300,900",
]

KEYS = {
    "Enter": "\ue007",
    "Escape": "\ue00c",
    "Left": "\ue012",
    "Up": "\ue013",
    "Right": "\ue014",
    "Down": "\ue015",
}
KEYS |= {"End": "\ue010", "Home": "\ue011", "Tab": "\ue004", "Control": "\ue009"}


class Browser:
    """One window."""

    def __init__(self, directory: Path) -> None:
        self._driver = subprocess.Popen(
            ["chromedriver", "--port=0", "--log-level=SEVERE"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env={**os.environ, "HOME": str(directory), "XDG_CONFIG_HOME": str(directory)},
        )
        self._session = ""
        try:
            said = next(line for line in self._driver.stdout if "successfully on port" in line)
            self._port = int(said.split("on port")[1].strip(" .\n"))
            wanted = {
                "browserName": "chrome",
                "goog:chromeOptions": {"args": [*OPTIONS, f"--user-data-dir={directory / 'profile'}"]},
                "goog:loggingPrefs": {"browser": "ALL"},
            }
            made = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._session = f"/session/{made['sessionId']}"
        except BaseException:
            self.close()
            raise

    def _ask(self, method: str, path: str, body: object = None):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=HANG_LIMIT)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            value = json.loads(connection.getresponse().read())["value"]
        finally:
            connection.close()
        if isinstance(value, dict) and "error" in value:
            raise AssertionError(f"{value['error']}: {value.get('message')}")
        return value

    def do(self, command: str, **body: object):
        return self._ask("POST", f"{self._session}/{command}", body)

    def open(self, page: Path) -> None:
        """Open a file, and wait until it is loaded."""
        self.do("url", url=page.as_uri())

    def run(self, script: str, *arguments: object):
        """Run a script in the page; give what it returns."""
        return self.do("execute/sync", script=script, args=list(arguments))

    def text(self, selector: str) -> str:
        return self.run("return document.querySelector(arguments[0]).innerText", selector)

    def find(self, selector: str) -> str:
        return next(iter(self.do("element", using="css selector", value=selector).values()))

    def click(self, selector: str) -> None:
        """Click what a selector finds, as a mouse does."""
        self.do(f"element/{self.find(selector)}/click")

    def type(self, selector: str, text: str) -> None:
        self.do(f"element/{self.find(selector)}/value", text=text)

    def press(self, *keys: str) -> None:
        """Press keys one after the other; ``Control+End`` is both at once."""
        actions = []
        for key in keys:
            held = [KEYS.get(one, one) for one in key.split("+")]
            actions += [{"type": "keyDown", "value": one} for one in held]
            actions += [{"type": "keyUp", "value": one} for one in reversed(held)]
        self.do("actions", actions=[{"type": "key", "id": "keys", "actions": actions}])

    def complaints(self) -> list[str]:
        """Give what the console has said since it was asked last."""
        return [entry["message"] for entry in self.do("se/log", type="browser")]

    def prefer(self, scheme: str) -> None:
        """Prefer ``dark`` or ``light``."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.do("goog/cdp/execute", cmd="Emulation.setEmulatedMedia", params={"features": features})

    def without_scripts(self, off: bool = True) -> None:
        """Have pages that are opened from now on run no script."""
        self.do("goog/cdp/execute", cmd="Emulation.setScriptExecutionDisabled", params={"value": off})

    def print(self) -> bytes:
        """Give the page as a PDF."""
        return base64.b64decode(self.do("print"))

    def close(self) -> None:
        try:
            if self._session:
                self._ask("DELETE", self._session)
        finally:
            # The browser is of its group.
            os.killpg(self._driver.pid, signal.SIGKILL)
            self._driver.wait()
            self._driver.stdout.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Give a browser with a profile of its own."""
    made = Browser(tmp_path_factory.mktemp("browser"))
    yield made
    made.close()
