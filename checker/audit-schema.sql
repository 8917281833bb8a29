-- SPDX-License-Identifier: LGPL-2.1-or-later
-- What audits keep. Times are seconds since 1970, sizes and offsets bytes; a path is the file's name as the system has it,
-- which need not be UTF-8. The number of this schema stands in `PRAGMA user_version`.

CREATE TABLE meta(
    key TEXT PRIMARY KEY,          -- 'schema', 'tool' (version that made the file)
    value TEXT NOT NULL
);

-- One audit. What it covered is named by farm: a hash of its paths and patterns, by which shards know each other.
CREATE TABLE run(
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,     -- tells runs of all hosts apart, and sorts by time
    host TEXT NOT NULL,
    farm TEXT NOT NULL,
    shard INTEGER NOT NULL,        -- from 1
    shards INTEGER NOT NULL,
    state TEXT NOT NULL,           -- 'running' (or cut off), 'cancelled', 'complete'
    is_full INTEGER NOT NULL,      -- 1: nothing was passed over as unchanged
    tool TEXT NOT NULL,
    rules TEXT NOT NULL,           -- version of the rules it was checked by
    started_at INTEGER NOT NULL,
    finished_at INTEGER,
    seconds REAL NOT NULL DEFAULT 0,
    found INTEGER NOT NULL DEFAULT 0,      -- images
    checked INTEGER NOT NULL DEFAULT 0,    -- of them, in this run; the others were unchanged
    unreadable INTEGER NOT NULL DEFAULT 0, -- paths that could not be looked at
    -- images by status when it ended
    clean INTEGER NOT NULL DEFAULT 0, repaired INTEGER NOT NULL DEFAULT 0, leaking INTEGER NOT NULL DEFAULT 0,
    dirty INTEGER NOT NULL DEFAULT 0, damaged INTEGER NOT NULL DEFAULT 0, unsupported INTEGER NOT NULL DEFAULT 0,
    error INTEGER NOT NULL DEFAULT 0, busy INTEGER NOT NULL DEFAULT 0,
    leaked_bytes INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE image(
    id INTEGER PRIMARY KEY,
    host TEXT NOT NULL,
    path TEXT NOT NULL,
    first_run INTEGER NOT NULL,    -- run.id
    last_run INTEGER NOT NULL,     -- the last that saw it, checked or unchanged, or saw that it is gone
    result_id INTEGER,             -- its newest result
    known_as TEXT,                 -- the last format that knew it
    is_gone INTEGER NOT NULL DEFAULT 0,
    UNIQUE(host, path)
);

-- An image as one check found it.
CREATE TABLE result(
    id INTEGER PRIMARY KEY,
    image_id INTEGER NOT NULL REFERENCES image(id) ON DELETE CASCADE,
    run_id INTEGER NOT NULL REFERENCES run(id),
    checked_at INTEGER NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,                   -- why the check could not be completed
    is_complete INTEGER NOT NULL,  -- 1: need not be checked again while the file and the rules are the same
    rules TEXT NOT NULL,
    dev INTEGER, ino INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
    size INTEGER,                  -- of the file, when it was found
    metadata_xxh INTEGER,          -- XXH3 of the first 64 KiB
    format TEXT, virtual_size INTEGER, file_size INTEGER, cluster_size INTEGER,
    corruptions INTEGER NOT NULL, leaks INTEGER NOT NULL, states INTEGER NOT NULL, warnings INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    leaked_bytes INTEGER NOT NULL,
    clusters_total INTEGER, clusters_allocated INTEGER, clusters_fragmented INTEGER, clusters_compressed INTEGER,
    clusters_zero INTEGER,
    image_end_offset INTEGER,
    reads INTEGER NOT NULL, bytes_read INTEGER NOT NULL,
    seconds REAL NOT NULL,
    strip TEXT,                    -- the file from its first byte to its last in up to 64 equal parts, with the letters of
                                   -- `vdcheck map` (leaked space is '.', unused '_'); since schema 2
    repair TEXT                    -- JSON: the audit's repair before this check, as --output=json has it; NULL: none; since
                                   -- schema 2
);
CREATE INDEX result_by_image ON result(image_id, id);
CREATE INDEX result_by_run ON result(run_id);
CREATE INDEX result_by_file ON result(dev, ino);

CREATE TABLE finding(
    result_id INTEGER NOT NULL REFERENCES result(id) ON DELETE CASCADE,
    finding TEXT NOT NULL,         -- id; `vdcheck explain` tells more
    severity TEXT NOT NULL,
    level TEXT NOT NULL,           -- the lowest level that repairs it
    count INTEGER NOT NULL,
    bytes INTEGER,                 -- leaked
    host_offset INTEGER,           -- of the first place
    guest_offset INTEGER,
    note TEXT,
    places TEXT NOT NULL           -- JSON: the first places, as --output=json has them
);
CREATE INDEX finding_by_result ON finding(result_id);

-- What an image stands on, by its newest result.
CREATE TABLE chain(
    image_id INTEGER PRIMARY KEY REFERENCES image(id) ON DELETE CASCADE,
    name TEXT NOT NULL,            -- of the backing file, as it stands in the image
    state TEXT NOT NULL,           -- 'found', 'missing', 'refused'
    path TEXT,                     -- where it was found
    dev INTEGER, ino INTEGER,
    base_id INTEGER                -- image.id, where the audit has that file
);
