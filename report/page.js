// SPDX-License-Identifier: LGPL-2.1-or-later
// The page of `vdcheck report --output=html`: sorts and filters the table, and opens what a link leads to. Names are
// read and compared as text, and never written.
"use strict";

(function () {
    function each(list, act) {
        Array.prototype.forEach.call(list, act);
    }

    function make(name, text) {
        const element = document.createElement(name);

        element.textContent = text;
        return element;
    }

    // ---- parts

    const parts = document.querySelectorAll("details.part");

    function openTarget() {
        const id = /^#i[0-9]+$/.test(location.hash) ? location.hash.slice(1) : "";
        const part = id && document.getElementById(id);

        if (!part) {
            return;
        }
        part.open = true;
        part.scrollIntoView();
        part.querySelector("summary").focus({preventScroll: true});
    }

    function addSwitch(row, text, open) {
        const button = make("button", text);

        button.type = "button";
        button.className = "small";
        button.addEventListener("click", function () {
            each(parts, function (part) {
                part.open = open;
            });
        });
        row.append(button);
    }

    function addSwitches() {
        const row = document.createElement("p");

        row.className = "switches";
        addSwitch(row, "Open all", true);
        addSwitch(row, "Close all", false);
        document.querySelector("#parts h2").after(row);
    }

    // What is closed would be missing on paper.
    function openForPaper() {
        let closed = [];

        window.addEventListener("beforeprint", function () {
            closed = Array.prototype.filter.call(parts, function (part) {
                return !part.open;
            });
            each(closed, function (part) {
                part.open = true;
            });
        });
        window.addEventListener("afterprint", function () {
            each(closed, function (part) {
                part.open = false;
            });
        });
    }

    window.addEventListener("hashchange", openTarget);
    // A second click on the same link changes no hash.
    document.addEventListener("click", function (event) {
        const link = event.target.closest("a[href^='#i']");

        if (link && link.hash === location.hash) {
            setTimeout(openTarget, 0);
        }
    });
    openForPaper();
    if (parts.length > 1) {
        addSwitches();
    }
    openTarget();

    // ---- the table

    const table = document.getElementById("rows");

    if (!table) {
        return;
    }
    const heads = Array.from(table.tHead.rows[0].cells);
    // A row with what it is sorted and found by; read once, for the document is slow to ask.
    const rows = Array.from(table.querySelectorAll("tbody > tr"), function (row, at) {
        const cells = row.cells;

        return {
            row: row,
            at: at,
            status: cells[0].firstChild.data.trim(),
            isNew: cells[0].childElementCount > 0,
            words: (cells[1].textContent + "\n" + cells[2].textContent + "\n" + cells[3].textContent).toLowerCase(),
            keys: [],
            shown: true,
        };
    });
    const groupSize = 50;
    const inOrder = new Intl.Collator("en", {numeric: true});

    // Puts the rows into the table in their order, in groups: those that are shown, and behind them the others.
    function layOut() {
        const all = document.createDocumentFragment();
        const others = document.createElement("tbody");
        let left = 0;
        let group = null;

        others.setAttribute("role", "rowgroup");
        rows.forEach(function (r) {
            left += r.shown;
        });
        rows.forEach(function (r) {
            if (!r.shown) {
                others.append(r.row);
                return;
            }
            if (!group || group.childElementCount === groupSize) {
                group = document.createElement("tbody");
                group.className = left >= groupSize ? "full" : "";
                group.setAttribute("role", "rowgroup");
                all.append(group);
            }
            group.append(r.row);
            left -= 1;
        });
        others.hidden = true;
        all.append(others);
        while (table.tBodies.length) {
            table.tBodies[0].remove();
        }
        table.append(all);
    }

    // Some browsers take a table whose rows are laid out as grids for none, unless it is said; a few rows at a time.
    function sayRoles(left) {
        left.splice(0, 500).forEach(function (r) {
            r.row.setAttribute("role", "row");
            each(r.row.cells, function (cell) {
                cell.setAttribute("role", "cell");
            });
        });
        if (left.length) {
            setTimeout(sayRoles, 10, left);
        }
    }

    function keyOf(cell, byNumber) {
        return byNumber ? Number(cell.dataset.v === undefined ? cell.textContent : cell.dataset.v) : cell.textContent;
    }

    // The rank of each text among all of them: the collator is asked once for a pair, and not in every sort.
    function rankTexts(column) {
        const texts = Array.from(new Set(rows.map(function (r) {
            return r.keys[column];
        })));
        const ranks = new Map();

        texts.sort(inOrder.compare).forEach(function (text, i) {
            ranks.set(text, i);
        });
        rows.forEach(function (r) {
            r.keys[column] = ranks.get(r.keys[column]);
        });
    }

    function readKeys(column) {
        const byNumber = heads[column].dataset.by === "number";

        if (rows.length && rows[0].keys[column] !== undefined) {
            return;
        }
        rows.forEach(function (r) {
            r.keys[column] = keyOf(r.row.cells[column], byNumber);
        });
        if (!byNumber) {
            rankTexts(column);
        }
    }

    function sortBy(column) {
        const head = heads[column];
        const was = head.getAttribute("aria-sort");
        const first = head.dataset.by === "number" ? "descending" : "ascending";
        const now = was === "none" ? first : was === "ascending" ? "descending" : "ascending";
        const sign = now === "ascending" ? 1 : -1;

        readKeys(column);
        rows.sort(function (a, b) {
            return sign * (a.keys[column] - b.keys[column]) || a.at - b.at;
        });
        layOut();
        heads.forEach(function (h) {
            h.setAttribute("aria-sort", h === head ? now : "none");
        });
    }

    heads.forEach(function (head, column) {
        const button = make("button", head.textContent);

        button.type = "button";
        button.addEventListener("click", function () {
            sortBy(column);
        });
        head.replaceChildren(button);
        head.setAttribute("aria-sort", "none");
    });

    // ---- the filter

    const controls = document.getElementById("controls");
    const search = document.getElementById("search");
    const onlyNew = document.getElementById("only-new");
    const shown = document.getElementById("shown");
    const boxes = Array.from(controls.querySelectorAll("input[name='status']"));

    function filter() {
        const words = search.value.toLowerCase().split(/\s+/);
        const statuses = new Set();
        let n = 0;
        let hasChanged = false;

        boxes.forEach(function (box) {
            if (box.checked) {
                statuses.add(box.value);
            }
        });
        rows.forEach(function (r) {
            const fits = statuses.has(r.status) && (!onlyNew.checked || r.isNew) && words.every(function (word) {
                return r.words.includes(word);
            });

            n += fits;
            hasChanged = hasChanged || fits !== r.shown;
            r.shown = fits;
        });
        if (hasChanged) {
            layOut();
        }
        shown.textContent = n.toLocaleString("en") + " of " + rows.length.toLocaleString("en") + " shown";
    }

    let later = 0;

    search.addEventListener("input", function () {
        clearTimeout(later);
        later = setTimeout(filter, 120);
    });
    controls.addEventListener("change", filter);
    controls.addEventListener("submit", function (event) {
        event.preventDefault();
        filter();
    });
    controls.hidden = false;
    sayRoles(rows.slice());
    // A browser that comes back to the page may have kept what was typed.
    filter();
})();
