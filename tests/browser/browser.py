# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pages of `vdcheck report --output=html` in a real browser.

browser.py CHROMIUM CHROMEDRIVER PAGES SHOTS: PAGES has 0.html, 10.html and 10000.html, named by how many images they
have; screenshots go to SHOTS. Prints what is wrong, and how long it took; the exit status is 1 where something is.
"""

import os
import sys
import time
from statistics import median

from driver import Browser

# What a person waits for without noticing much. The median is judged: other work on the machine makes some clicks slow.
WANTED_MS = 300
LIMIT_MS = 3 * WANTED_MS

# In the page: milliseconds until a click on an element has been drawn.
CLICK = """
    const [selector, done] = arguments, element = document.querySelector(selector), start = performance.now();
    element.click();
    document.body.offsetHeight;
    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start)));
"""

# The rows that are shown, as lists of what their cells say, with the numbers behind them.
ROWS = """
    const shown = Array.from(document.querySelectorAll('#rows tbody:not([hidden]) tr'));
    return shown.map(r => Array.from(r.cells, c => c.dataset.v === undefined ? c.textContent : Number(c.dataset.v)));
"""

# Words in the order of a language, and numbers in them by their value, as people expect it.
IN_ORDER = """
    const [words, sign] = arguments, order = new Intl.Collator('en', {numeric: true});
    return words.every((w, i) => i === 0 || sign * order.compare(words[i - 1], w) <= 0);
"""

# The worst contrast of text with what lies behind it, as [ratio, text, colours].
CONTRAST = """
    function channels(css) {
        return css.match(/[0-9.]+/g).map(Number);
    }
    function light(rgb) {
        const [r, g, b] = rgb.slice(0, 3).map(v => {
            v /= 255;
            return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    }
    function ratio(a, b) {
        const [x, y] = [light(channels(a)), light(channels(b))].sort((p, q) => q - p);
        return (x + 0.05) / (y + 0.05);
    }
    function behind(element) {
        for (; element; element = element.parentElement) {
            const c = getComputedStyle(element).backgroundColor, parts = channels(c);
            if (parts.length < 4 || parts[3] === 1) return c;
        }
        return 'rgb(255, 255, 255)';
    }
    let worst = [99, '', ''];
    function judge(front, back, text) {
        const r = ratio(front, back);
        if (r < worst[0]) worst = [r, text.trim().slice(0, 40), front + ' on ' + back];
    }
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode, element = node.parentElement;
        if (!node.data.trim() || element.closest('script, style, svg')) continue;
        judge(getComputedStyle(element).color, behind(element), node.data);
    }
    for (const svg of document.querySelectorAll('.strip svg')) {
        const letters = getComputedStyle(svg.querySelector('text')).fill;
        for (const rect of svg.querySelectorAll('rect')) judge(letters, getComputedStyle(rect).fill, 'strip');
    }
    return worst;
"""

# Levels of the headings, in their order.
HEADINGS = "return Array.from(document.querySelectorAll('h1, h2, h3, h4'), h => Number(h.tagName[1]));"

COLUMNS = ["Status", "Path", "Host", "Format", "Size", "Leaked", "Findings", "Checked (UTC)", "Age"]
WORDS = {"Path", "Host", "Format"}


class Failures:
    """What is wrong so far."""

    def __init__(self):
        self.n = 0

    def expect(self, holds, what):
        if not holds:
            self.n += 1
            print("FAIL: %s" % what)


class Page:
    """One page in the browser."""

    def __init__(self, browser, failures, pages, shots, name):
        self.b, self.failures, self.shots, self.name = browser, failures, shots, name
        self.file = os.path.join(pages, name + ".html")

    def expect(self, holds, what):
        self.failures.expect(holds, "%s.html: %s" % (self.name, what))

    def load(self):
        self.b.load(self.file)

    def is_quiet(self):
        """No script error, no violation of the policy, no request but the one for the page."""
        told = [entry["message"] for entry in self.b.log("browser")]
        self.expect(not told, "the console says: %s" % told[:3])
        others = [url for url in self.b.requests() if url != "file://" + self.file]
        self.expect(not others, "requests for %s" % others[:3])

    def shoot_both(self):
        for scheme in ("light", "dark"):
            self.b.scheme(scheme)
            self.b.shoot(os.path.join(self.shots, "%s-%s.png" % (self.name, scheme)))
            worst = self.b.run(CONTRAST) if self.name != "10000" else [99, "", ""]
            self.expect(worst[0] >= 4.5, "%s: a contrast of %.2f: '%s', %s" % (scheme, *worst))
        self.b.scheme("light")

    def has_headings_in_order(self):
        levels = self.b.run(HEADINGS)
        self.expect(levels[0] == 1 and levels.count(1) == 1, "not one h1")
        self.expect(all(b <= a + 1 for a, b in zip(levels, levels[1:])), "headings jump: %s" % levels)

    def fits_narrow_windows(self):
        self.b.size(420, 800)
        width = self.b.run("return document.documentElement.scrollWidth;")
        self.expect(width <= 420, "%d pixels wide in a window of 420" % width)
        self.b.shoot(os.path.join(self.shots, self.name + "-narrow.png"), 420)
        self.b.size(1280, 900)

    def sorts(self):
        """By each column, up and down; returns how long each took."""
        times = []
        self.b.run("document.getElementById('images').scrollIntoView();") # rows in sight are what costs
        for i, head in enumerate(COLUMNS):
            selector = "#rows th:nth-child(%d) button" % (i + 1)
            for _ in range(2):
                times.append(self.b.run_async(CLICK, selector))
                sort = self.b.run("return document.querySelector(arguments[0]).parentNode.getAttribute('aria-sort');",
                                  selector)
                keys = [row[i] for row in self.b.run(ROWS)]
                sign = 1 if sort == "ascending" else -1
                if head in WORDS:
                    is_ordered = self.b.run(IN_ORDER, keys, sign)
                else:
                    is_ordered = all(sign * float(a) <= sign * float(b) for a, b in zip(keys, keys[1:]))
                self.expect(is_ordered, "not sorted by %s, %s" % (head, sort))
            others = self.b.run("return document.querySelectorAll('[aria-sort=none]').length;")
            self.expect(others == len(COLUMNS) - 1, "more than one column says that it sorts")
        return times

    def count(self):
        """Rows that are shown, which the live region must say too."""
        said = self.b.run("return document.getElementById('shown').textContent;")
        n = self.b.run("return document.querySelectorAll('#rows tbody:not([hidden]) tr').length;")
        self.expect(said.startswith("{:,} of ".format(n)), "%d rows are shown, and it says: %s" % (n, said))
        return n

    def search(self, text):
        self.b.run("document.getElementById('search').value = '';")
        self.b.type("#search", text)
        time.sleep(0.5)
        return self.count()

    def filters(self, all_n, word, word_n):
        self.expect(self.search(word) == word_n, "'%s' finds %d rows" % (word, self.count()))
        self.expect(self.search("no such image") == 0, "what is not there is found")
        self.expect(self.search(" ") == all_n, "an empty search hides rows")
        clean = self.b.run("return Array.from(document.querySelectorAll('#rows td:first-child'))"
                           ".filter(c => c.dataset.v === '0').length;")
        times = []
        for _ in range(3):
            times.append(self.b.run_async(CLICK, "input[value=clean]"))
            self.expect(self.count() == all_n - clean, "the clean ones do not go")
            times.append(self.b.run_async(CLICK, "input[value=clean]"))
            self.expect(self.count() == all_n, "the clean ones do not come back")
        return times

    def opens_details(self):
        self.b.run("document.querySelectorAll('details').forEach(d => { d.open = false; });")
        self.b.click("#rows a")
        time.sleep(0.2)
        self.expect(self.b.run("const d = document.querySelector(location.hash); return d.open &&"
                               " document.activeElement === d.querySelector('summary');"),
                    "a link opens no details")
        self.b.press("enter")
        self.expect(not self.b.run("return document.querySelector(location.hash).open;"), "Enter closes no details")
        self.b.click("#rows a")
        time.sleep(0.2)
        self.expect(self.b.run("return document.querySelector(location.hash).open;"), "the same link opens once only")

    def works_by_keyboard(self):
        self.load()
        self.b.press("tab")
        self.expect(self.b.run("return document.activeElement.className;") == "skip", "no skip link comes first")
        self.expect(self.b.run("return document.activeElement.getBoundingClientRect().left >= 0;"),
                    "the skip link is not to be seen")
        self.expect(self.b.run("return getComputedStyle(document.activeElement).outlineStyle;") != "none",
                    "no focus is to be seen")
        self.b.press("enter")
        self.expect(self.b.run("return location.hash;") == "#main", "the skip link leads nowhere")
        reached = set()
        for _ in range(400):
            self.b.press("tab")
            reached.add(self.b.run("const a = document.activeElement; return a.id || a.name || a.className ||"
                                   " (a.parentNode.dataset && a.parentNode.dataset.by && 'sort') || a.tagName;"))
            if "sort" in reached:
                break
        self.expect({"search", "status", "only-new", "sort"} <= reached, "the keyboard reaches only %s" % reached)
        self.b.press("enter")
        self.expect(self.b.run("return document.querySelectorAll('#rows th')[0].getAttribute('aria-sort');") ==
                    "descending", "Enter does not sort")
        self.b.press("space")
        self.expect(self.b.run("return document.querySelectorAll('#rows th')[0].getAttribute('aria-sort');") ==
                    "ascending", "the space bar does not sort")
        before = self.count()
        self.b.run("document.querySelector('input[value=clean]').focus();")
        self.b.press("space")
        self.expect(self.count() < before, "the space bar clears no box")

    def is_told_to_screen_readers(self):
        self.b.devtools("Accessibility.enable")
        nodes = self.b.devtools("Accessibility.getFullAXTree")["nodes"]
        self.b.devtools("Accessibility.disable")
        said = {}
        for node in nodes:
            name = node.get("name", {}).get("value", "")
            said.setdefault(node.get("role", {}).get("value"), []).append(name)
        self.expect(any(n.startswith("The file in ") for n in said.get("image", [])), "a strip has no words")
        self.expect(sum("the table has the numbers" in n for n in said.get("image", [])) == 4,
                    "a chart has no words: %s" % said.get("image"))
        self.expect(len(said.get("columnheader", [])) >= len(COLUMNS) and
                    len(said.get("cell", [])) >= 10 * len(COLUMNS),
                    "the table is none: %s" % {k: len(v) for k, v in said.items()})
        for role in ("main", "navigation", "status", "searchbox"):
            self.expect(said.get(role), "no element is a %s" % role)
        self.expect(said.get("searchbox") == ["Search"], "the search field is called %s" % said.get("searchbox"))

    def keeps_names_text(self, names):
        shown = self.b.run("return Array.from(document.querySelectorAll('#rows td:nth-child(2)'),"
                           " c => c.textContent);")
        for name in names:
            self.expect(any(path.endswith(name) for path in shown), "no path ends with %r" % name)
        odd = self.b.run("return Array.from(document.querySelectorAll('body *'), e => e.tagName.toLowerCase())"
                         ".filter(t => ['img', 'iframe', 'object', 'embed', 'link', 'base', 'meta'].includes(t));")
        self.expect(not odd, "elements that no page has: %s" % odd)
        self.expect(self.b.run("return document.scripts.length + ' ' + document.styleSheets.length;") == "1 1",
                    "more scripts or styles than one")
        self.expect(self.b.run("return Array.from(document.querySelectorAll('[href]'))"
                               ".every(a => /^#[a-z0-9]+$/.test(a.getAttribute('href')));"), "a link leads elsewhere")
        self.expect(self.b.run("return Array.from(document.querySelectorAll('*')).every(e => Array.from(e.attributes)"
                               ".every(a => a.name !== 'style' && !a.name.startsWith('on')));"),
                    "an attribute is style or script")

    def obeys_its_policy(self):
        """That the policy holds is tried: a script and an image that slip in do nothing."""
        self.b.run("const s = document.createElement('script'); s.textContent = 'window.slipped = 1';"
                   " document.body.append(s); const i = new Image(); i.src = 'x.png'; document.body.append(i);")
        time.sleep(0.3)
        self.expect(self.b.run("return window.slipped === undefined;"), "a script that slips in is run")
        told = [entry["message"] for entry in self.b.log("browser")]
        self.expect(sum("Content Security Policy" in t for t in told) >= 2, "the policy says nothing: %s" % told)

    def is_readable_without_script(self, all_n):
        self.b.devtools("Emulation.setScriptExecutionDisabled", value=True)
        self.load()
        snapshot = self.b.devtools("DOMSnapshot.captureSnapshot", computedStyles=["display"])
        self.b.shoot(os.path.join(self.shots, self.name + "-no-script.png"))
        self.b.devtools("Emulation.setScriptExecutionDisabled", value=False)
        names = snapshot["strings"]
        tags = [names[i] for i in snapshot["documents"][0]["nodes"]["nodeName"]]
        self.expect(tags.count("TR") >= all_n + 1, "rows are missing without the script")
        self.expect("BUTTON" not in tags, "there is a button that does nothing without the script")

    def prints(self):
        self.load()
        self.b.run("document.querySelectorAll('details').forEach(d => { d.open = false; });"
                   "addEventListener('beforeprint', () => { window.closedOnPaper ="
                   " document.querySelectorAll('details.part:not([open])').length; });")
        pdf = self.b.print_pdf(os.path.join(self.shots, self.name + ".pdf"))
        self.expect(pdf.startswith(b"%PDF") and len(pdf) > 10000, "it does not print")
        self.expect(self.b.run("return window.closedOnPaper === 0;"), "parts are closed on paper")
        self.expect(not self.b.run("return document.querySelector('details.part').open;"),
                    "what was opened for paper stays open")


HOSTILE = [
    "<script>alert(1).qed",
    "x</script>.qed",
    "\"onload='alert(1)'.qed",
    "two\\x0alines.qed",
    "\\xff\\xfe.qed",
    "a\\xe2\\x80\\xaegpj.qed",
    "&lt;b&gt;.qed",
]


def try_empty(page):
    page.load()
    page.has_headings_in_order()
    page.shoot_both()
    page.is_quiet()


def try_ten(page):
    page.load()
    page.keeps_names_text(HOSTILE)
    page.has_headings_in_order()
    page.is_told_to_screen_readers()
    page.shoot_both()
    page.sorts()
    page.filters(10, "lines", 1)
    page.opens_details()
    page.fits_narrow_windows()
    page.works_by_keyboard()
    page.is_quiet()
    page.obeys_its_policy()
    page.prints()
    page.is_readable_without_script(10)


def try_ten_thousand(page):
    start = time.time()
    page.load()
    loaded = time.time() - start
    sorting = page.sorts()
    filtering = page.filters(10000, "copy-00777", page.b.run(
        "return Array.from(document.querySelectorAll('#rows td:nth-child(2)'))"
        ".filter(c => c.textContent.includes('copy-00777')).length;"))
    page.opens_details()
    page.is_quiet()
    page.load()
    page.shoot_both()
    print("10,000 images: loaded in %.1f s" % loaded)
    for what, times in (("sort", sorting), ("filter", filtering)):
        print("a %s takes %.0f ms, the slowest of %d took %.0f ms (wanted: %d)" %
              (what, median(times), len(times), max(times), WANTED_MS))
        page.expect(median(times) < LIMIT_MS, "a %s takes longer than %d ms" % (what, LIMIT_MS))


def main():
    chromium, chromedriver, pages, shots = sys.argv[1:]
    failures = Failures()
    for name, attempt in (("0", try_empty), ("10", try_ten), ("10000", try_ten_thousand)):
        # A browser each: what looked at one page for screen readers would slow down the next.
        browser = Browser(chromium, chromedriver)
        try:
            attempt(Page(browser, failures, pages, shots, name))
        finally:
            browser.close()
    print("%d checks failed; screenshots are in %s" % (failures.n, shots) if failures.n
          else "all well; screenshots are in %s" % shots)
    return 1 if failures.n else 0


if __name__ == "__main__":
    sys.exit(main())
