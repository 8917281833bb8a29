/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Power cuts for every fixture: each file of its image is repaired at each level that leads further than the
 * one below, and the commit (in a long run its undo as well) is cut at every point.
 *
 * Which fixtures there are, the folder fixtures/ says; nothing here knows a format. Where the expected output
 * of a fixture tells of a repair at a level, a repair must have been cut here, so that none is left out
 * unseen.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/registry.h"
#include "tests/crash/roll.h"
#include "tests/fixture/fixture.h"

enum { PROBE_BYTES = 2048, MOST_BYTES = 64 << 20 };

VD_VEC(name_vec, char *)

static struct name_vec fixtures; /* FORMAT/FINDING, in order */
static char *recipe;             /* of the fixture at hand */

/* ---- the corpus */

static const char *srcdir(void)
{
    const char *dir = getenv("srcdir");

    return dir && *dir ? dir : ".";
}

/* malloc'd; a test without memory for a name is over. */
static char *name_of(const char *a, const char *b, const char *c, const char *d)
{
    char *name = NULL;

    if (asprintf(&name, "%s%s%s%s", a, b, c, d) < 0)
        abort();
    return name;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Calls fn for each entry of a folder that is not hidden. */
static void each_entry(const char *folder, void (*fn)(const char *folder, const char *name, void *opaque),
                       void *opaque)
{
    DIR *dir = opendir(folder);

    for (struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir))
        if (e->d_name[0] != '.')
            fn(folder, e->d_name, opaque);
    if (dir)
        closedir(dir);
}

static void add_fixture(const char *folder, const char *name, void *opaque)
{
    vd_auto_mem char *path = name_of(folder, "/", name, "/recipe");

    if (access(path, R_OK) == 0 && name_vec_push(&fixtures, name_of(opaque, "/", name, "")) < 0)
        abort();
}

static void add_format(const char *folder, const char *name, void *opaque)
{
    vd_auto_mem char *path = name_of(folder, "/", name, "");
    vd_auto_mem char *format = name_of(name, "", "", "");

    (void)opaque;
    each_entry(path, add_fixture, format);
}

static int find_fixtures(void)
{
    vd_auto_mem char *path = name_of(srcdir(), "/fixtures", "", "");

    each_entry(path, add_format, NULL);
    if (!fixtures.n) {
        fprintf(stderr, "%s: no fixtures\n", path);
        exit(EXIT_FAILURE);
    }
    qsort(fixtures.v, fixtures.n, sizeof(*fixtures.v), by_name);
    return (int)fixtures.n;
}

/* Does the expected output say that this level repairs something? */
static bool expects_repair(const char *fixture, enum vd_level level)
{
    vd_auto_mem char *folder = name_of(srcdir(), "/fixtures/", fixture, "/repair");
    bool is_safe = level == VD_LEVEL_SAFE;
    vd_auto_mem char *path =
        name_of(folder, is_safe ? "" : "-", is_safe ? "" : vd_level_name(level), ".json");
    vd_auto_mem char *line = NULL;
    bool found = false;
    size_t room = 0;
    FILE *f;

    f = fopen(path, "re");
    while (f && !found && getline(&line, &room, f) > 0)
        found = strstr(line, "\"verified\": true") != NULL;
    if (f)
        fclose(f);
    return found;
}

/* ---- the files of one fixture */

struct subject {
    const char *fixture;
    struct vd_fault_rule rule;
    bool has_fault, has_holes, is_deep;
    bool is_repaired[VD_LEVEL_ALL + 1];
    uint64_t cuts;
};

static void skip(const struct subject *subject, const char *file, const char *why)
{
    printf("skipped: %s: %s: %s\n", subject->fixture, file, why);
    fflush(stdout);
}

static const struct BlockDriver *driver_of(struct BlockDriverState *file)
{
    vd_auto_mem char *options = fixture_word(recipe, "options");
    size_t len;
    const uint8_t *bytes = vd_memory_bytes(file, &len);
    int score;

    if (options && strncmp(options, "--format=", 9) == 0)
        return vd_driver_by_name(options + 9);
    return vd_driver_probe(bytes, vd_min(len, PROBE_BYTES), (int64_t)len, &score);
}

static struct BlockDriverState *load(const char *path, size_t len)
{
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *disk = vd_memory_new(path, NULL, len, &err);
    FILE *f = fopen(path, "re");

    sweep_must(disk && f, "%s: %s", path, disk ? strerror(errno) : err.story);
    sweep_must(fread(vd_memory_bytes(disk, &len), 1, len, f) == len, "%s: %s", path, strerror(errno));
    fclose(f);
    return disk;
}

static void cut_level(struct subject *subject, const struct sweep_image *image, const char *file,
                      enum vd_level level, struct BlockDriverState *below)
{
    struct sweep_image damaged = {.drv = image->drv, .file = bdrv_ref(image->file), .deep = subject->is_deep};
    struct crash_run run;
    char name[300];

    snprintf(name, sizeof(name), "%s: %s at level %s", subject->fixture, file, vd_level_name(level));
    if (crash_begin(&run, name, &damaged, level, subject->has_fault ? &subject->rule : NULL)) {
        subject->is_repaired[level] = true;
        if (!sweep_same_bytes(run.new.file, below)) {
            crash_copy(below, run.new.file);
            crash_cut_commit(&run);
            if (sweep_is_long())
                crash_cut_undo(&run);
        }
    } else if (run.repair.err.kind) {
        skip(subject, file, run.repair.err.story);
    }
    subject->cuts += run.cuts;
    crash_end(&run);
}

static void cut_file(const char *folder, const char *file, void *opaque)
{
    struct subject *subject = opaque;
    struct sweep_image image = {0};
    vd_auto(BlockDriverState) below = crash_disk_new();
    struct stat st;

    (void)folder;
    if (strstr(file, ".vdcheck-") || strstr(file, ".intact") || stat(file, &st) < 0)
        return;
    subject->has_holes |= st.st_blocks * 512 < st.st_size;
    if (st.st_size > MOST_BYTES) {
        skip(subject, file, "larger than what is kept in memory");
        return;
    }
    image.file = load(file, (size_t)st.st_size);
    image.drv = driver_of(image.file);
    crash_copy(below, image.file);
    for (enum vd_level level = VD_LEVEL_LEAKS; image.drv && image.drv->bdrv_co_check && level <= VD_LEVEL_ALL;
         level++)
        cut_level(subject, &image, file, level, below);
    sweep_drop(&image);
}

static void must_have_cut_what_is_expected(const struct subject *subject)
{
    for (enum vd_level level = VD_LEVEL_LEAKS; level <= VD_LEVEL_ALL; level++) {
        sweep_case("%s at level %s", subject->fixture, vd_level_name(level));
        if (subject->is_repaired[level] || !expects_repair(subject->fixture, level))
            continue;
        sweep_must(subject->has_holes, "the fixture is repaired at this level, and not here");
        skip(subject, vd_level_name(level), "its holes are what is wrong, and a disk in memory has none");
    }
}

/* ---- one fixture */

static void remove_file(const char *folder, const char *name, void *opaque)
{
    (void)folder;
    (void)opaque;
    (void)unlink(name);
}

START_TEST(a_repair_of_a_fixture_cut_off_anywhere_leads_to_both_images)
{
    struct subject subject = {.fixture = fixtures.v[_i]};
    const char *tmp = getenv("TMPDIR");
    char folder[256];
    struct vd_err err = VD_ERR_INIT;
    vd_auto_mem char *fault = NULL, *options = NULL;
    int rc;

    snprintf(folder, sizeof(folder), "%s/vdcheck-crash.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    recipe = name_of(srcdir(), "/fixtures/", subject.fixture, "/recipe");
    sweep_case("%s", subject.fixture);
    sweep_must(mkdtemp(folder), "%s: %s", folder, strerror(errno));
    fault = fixture_word(recipe, "fault");
    options = fixture_word(recipe, "options");
    subject.is_deep = options && strstr(options, "--deep");
    subject.has_fault = fault;
    sweep_must(!fault || vd_fault_parse(fault, &subject.rule, &err) == 0, "%s", err.story);
    rc = fixture_build(recipe, folder, &err);
    if (rc == 0) {
        each_entry(".", cut_file, &subject);
        must_have_cut_what_is_expected(&subject);
        printf("%s: %" PRIu64 " cuts\n", subject.fixture, subject.cuts);
    } else {
        sweep_must(err.kind == VD_ERR_UNSUPPORTED, "%s", err.story);
        skip(&subject, "image", err.story);
    }
    each_entry(".", remove_file, NULL);
    rmdir(folder);
    free(recipe);
}
END_TEST

SWEEP_TESTS("crashed fixtures",
            {a_repair_of_a_fixture_cut_off_anywhere_leads_to_both_images, find_fixtures()})
