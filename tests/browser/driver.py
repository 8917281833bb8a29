# SPDX-License-Identifier: LGPL-2.1-or-later
"""Chromium by chromedriver's own protocol: no more than Python's standard library is needed."""

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {"tab": "\ue004", "enter": "\ue007", "space": " ", "escape": "\ue00c"}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Browser:
    """A headless Chromium with one window."""

    def __init__(self, chromium, chromedriver):
        self.port = free_port()
        self.driver = subprocess.Popen([chromedriver, "--port=%d" % self.port],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.session = None
        try:
            self.wait_until_ready()
            self.begin(chromium)
        except BaseException:
            self.close()
            raise

    def wait_until_ready(self):
        for _ in range(100):
            try:
                if self.call("GET", "/status")["ready"]:
                    return
            except (OSError, urllib.error.URLError):
                pass
            time.sleep(0.1)
        raise RuntimeError("chromedriver does not answer")

    def begin(self, chromium):
        args = ["--headless=new", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,900"]
        if os.geteuid() == 0:
            args.append("--no-sandbox")
        self.session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": shutil.which(chromium), "args": args},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }}})["sessionId"]

    def close(self):
        try:
            if self.session:
                self.call("DELETE", self.path(""))
        finally:
            self.driver.terminate()
            self.driver.wait()

    def call(self, method, path, body=None):
        request = urllib.request.Request("http://127.0.0.1:%d%s" % (self.port, path), method=method,
                                         data=None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError("%s %s: %s" % (method, path, error.read().decode()[:500])) from error

    def path(self, rest):
        return "/session/%s%s" % (self.session, rest)

    def devtools(self, command, **params):
        return self.call("POST", self.path("/goog/cdp/execute"), {"cmd": command, "params": params})

    def log(self, kind):
        return self.call("POST", self.path("/se/log"), {"type": kind})

    def load(self, file):
        self.log("browser")
        self.log("performance")
        self.call("POST", self.path("/url"), {"url": "file://" + file})

    def requests(self):
        """The addresses of all requests since the page was asked for."""
        urls = []
        for entry in self.log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                urls.append(message["params"]["request"]["url"].split("#")[0])
        return urls

    def run(self, script, *args):
        """What the script, the body of a function, returns."""
        return self.call("POST", self.path("/execute/sync"), {"script": script, "args": list(args)})

    def run_async(self, script, *args):
        """What the script hands to its last argument."""
        return self.call("POST", self.path("/execute/async"), {"script": script, "args": list(args)})

    def find(self, selector):
        return self.call("POST", self.path("/element"), {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector):
        self.call("POST", self.path("/element/%s/click" % self.find(selector)), {})

    def type(self, selector, text):
        self.call("POST", self.path("/element/%s/value" % self.find(selector)), {"text": text})

    def press(self, *names):
        """Keys, where the focus is."""
        actions = []
        for name in names:
            key = KEYS.get(name, name)
            actions += [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self.call("POST", self.path("/actions"), {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def scheme(self, name):
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def size(self, width, height):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                      mobile=False)

    def shoot(self, file, width=1280, height=2400):
        """A picture of the page from its top, of at most that height."""
        full = self.devtools("Page.getLayoutMetrics")["cssContentSize"]["height"]
        clip = {"x": 0, "y": 0, "width": width, "height": min(full, height), "scale": 1}
        shot = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        with open(file, "wb") as f:
            f.write(base64.b64decode(shot["data"]))

    def print_pdf(self, file):
        pdf = base64.b64decode(self.devtools("Page.printToPDF")["data"])
        with open(file, "wb") as f:
            f.write(pdf)
        return pdf
