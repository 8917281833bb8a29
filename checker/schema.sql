-- SPDX-License-Identifier: LGPL-2.1-or-later
-- The map that --map=FILE keeps. Offsets and sizes are bytes, clusters are numbers of host clusters.

CREATE TABLE IF NOT EXISTS image(
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,
    format TEXT NOT NULL,
    status TEXT NOT NULL,
    virtual_size INTEGER,
    file_size INTEGER,
    cluster_size INTEGER,
    dev INTEGER, ino INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
    metadata_xxh INTEGER,          -- XXH3 of the header and the top table
    checked_at INTEGER NOT NULL,   -- seconds since 1970
    rules TEXT NOT NULL            -- version of the rules it was checked by
);

-- Runs of equal clusters, in order of host offset. refs: 0, 1, or 2 for more than one. stored_refs: where the format
-- keeps counts.
CREATE TABLE IF NOT EXISTS usage_run(
    image_id INTEGER NOT NULL REFERENCES image(id) ON DELETE CASCADE,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL,
    kind TEXT NOT NULL,
    refs INTEGER NOT NULL,
    stored_refs INTEGER
);

-- Who claims what is claimed more than once; with --owners, who claims anything.
CREATE TABLE IF NOT EXISTS claim(
    image_id INTEGER NOT NULL REFERENCES image(id) ON DELETE CASCADE,
    cluster INTEGER NOT NULL,
    kind TEXT NOT NULL,
    reference_offset INTEGER,
    guest_offset INTEGER,
    owner TEXT
);

CREATE TABLE IF NOT EXISTS finding(
    image_id INTEGER NOT NULL REFERENCES image(id) ON DELETE CASCADE,
    finding TEXT NOT NULL,
    severity TEXT NOT NULL,
    host_offset INTEGER,
    guest_offset INTEGER,
    found TEXT,
    expected TEXT,
    fixable TEXT NOT NULL,         -- the lowest level that repairs it
    fixed INTEGER NOT NULL
);
