/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/node/gate.h"

#include <limits.h>
#include <sys/sysmacros.h>

#include "formats/base/auto.h"
#include "formats/node/file.h"
#include "tests/unit/unit.h"

/*
 *     disks/image.qed disks/base.raw disks/sub/deep.raw
 *     other/base.raw  disks-too/base.raw
 */
static void make_tree(void)
{
    static const char *const folders[] = {"disks", "disks/sub", "other", "disks-too"};
    static const char *const files[] = {"disks/image.qed", "disks/base.raw", "disks/sub/deep.raw",
                                        "other/base.raw", "disks-too/base.raw"};

    for (size_t i = 0; i < VD_ARRAY_SIZE(folders); i++)
        ck_assert_int_eq(mkdir(folders[i], 0755), 0);
    for (size_t i = 0; i < VD_ARRAY_SIZE(files); i++)
        vd_unit_write_file(files[i], "abc", 3);
}

static enum vd_gate_answer find_bytes(const char *allowed, const char *name, size_t len, char **path,
                                      struct vd_err *err)
{
    struct vd_gate gate = {.allowed = &allowed, .allowed_n = allowed != NULL};

    *path = NULL;
    *err = (struct vd_err)VD_ERR_INIT;
    return vd_gate_find(&gate, "disks/image.qed", name, len, path, err);
}

/* allowed: one more folder, or NULL. */
static void expect(const char *allowed, const char *name, enum vd_gate_answer expected)
{
    struct vd_err err;
    vd_auto_mem char *path = NULL;
    enum vd_gate_answer answer = find_bytes(allowed, name, strlen(name), &path, &err);

    ck_assert_msg(answer == expected, "'%s' with %s: answer %d, expected %d: %s", name,
                  allowed ? allowed : "nothing allowed", answer, expected, err.story);
    ck_assert_int_eq(path != NULL, expected == VD_GATE_OPEN);
    if (expected == VD_GATE_OPEN)
        ck_assert_int_eq(path[0], '/');
    else
        ck_assert_str_ne(err.story, "");
    if (expected == VD_GATE_REFUSED)
        ck_assert_int_eq(err.kind, VD_ERR_REFUSED);
}

static const char *absolute(const char *name)
{
    static char path[PATH_MAX];
    char here[PATH_MAX - 100];

    ck_assert_ptr_nonnull(getcwd(here, sizeof(here)));
    snprintf(path, sizeof(path), "%s/%s", here, name);
    return path;
}

START_TEST(a_file_in_the_images_folder_is_followed)
{
    make_tree();
    expect(NULL, "base.raw", VD_GATE_OPEN);
    expect(NULL, "./base.raw", VD_GATE_OPEN);
    expect(NULL, "sub/deep.raw", VD_GATE_OPEN);
    expect(NULL, "sub/../base.raw", VD_GATE_OPEN);
    expect(NULL, "../disks/base.raw", VD_GATE_OPEN);
    expect(NULL, absolute("disks/base.raw"), VD_GATE_OPEN);
    expect(NULL, "file:base.raw", VD_GATE_OPEN);
    expect(NULL, "./strange:name", VD_GATE_MISSING);
}
END_TEST

START_TEST(a_file_outside_is_refused)
{
    make_tree();
    expect(NULL, "../other/base.raw", VD_GATE_REFUSED);
    expect(NULL, "sub/../../other/base.raw", VD_GATE_REFUSED);
    expect(NULL, absolute("other/base.raw"), VD_GATE_REFUSED);
    expect(NULL, "/etc/passwd", VD_GATE_REFUSED);
    expect(NULL, "file:/etc/passwd", VD_GATE_REFUSED);
    /* A folder whose name only begins like ours is another folder. */
    expect(NULL, "../disks-too/base.raw", VD_GATE_REFUSED);
}
END_TEST

START_TEST(an_allowed_folder_widens_the_gate_and_no_other)
{
    make_tree();
    expect("other", "../other/base.raw", VD_GATE_OPEN);
    expect("./other/", absolute("other/base.raw"), VD_GATE_OPEN);
    expect(absolute("other"), "../other/base.raw", VD_GATE_OPEN);
    expect("other", "../disks-too/base.raw", VD_GATE_REFUSED);
    expect("oth", "../other/base.raw", VD_GATE_REFUSED);
    expect("other/base.raw", "../other/base.raw", VD_GATE_REFUSED);
    expect("no-such-folder", "../other/base.raw", VD_GATE_REFUSED);
    expect("other", "base.raw", VD_GATE_OPEN);
    expect("/", "../other/base.raw", VD_GATE_OPEN);
    expect("/", "/etc/passwd", VD_GATE_OPEN);
}
END_TEST

START_TEST(a_link_out_of_the_folder_is_refused_and_one_inside_is_followed)
{
    make_tree();
    ck_assert_int_eq(symlink("../other/base.raw", "disks/out"), 0);
    ck_assert_int_eq(symlink("/etc/passwd", "disks/away"), 0);
    ck_assert_int_eq(symlink("../other", "disks/door"), 0);
    ck_assert_int_eq(symlink("sub/deep.raw", "disks/in"), 0);
    ck_assert_int_eq(symlink("nowhere", "disks/dangling"), 0);
    ck_assert_int_eq(symlink("loop", "disks/loop"), 0);
    expect(NULL, "out", VD_GATE_REFUSED);
    expect(NULL, "away", VD_GATE_REFUSED);
    expect(NULL, "door/base.raw", VD_GATE_REFUSED);
    expect("other", "door/base.raw", VD_GATE_OPEN);
    expect(NULL, "in", VD_GATE_OPEN);
    expect(NULL, "dangling", VD_GATE_MISSING);
    expect(NULL, "loop", VD_GATE_MISSING);
}
END_TEST

START_TEST(a_protocol_is_refused_whatever_is_allowed)
{
    static const char *const names[] = {"nbd:localhost:10809",
                                        "nbd://host/x",
                                        "https://example.org/a.raw",
                                        "json:{\"driver\":\"file\",\"filename\":\"base.raw\"}",
                                        "fat:rw:.",
                                        "file:json:{}",
                                        "file:nbd:localhost:1",
                                        "file:file:base.raw",
                                        ":",
                                        "x:",
                                        "host_device:/dev/sda"};

    make_tree();
    vd_unit_write_file("disks/nbd:localhost:10809", "abc", 3);
    for (size_t i = 0; i < VD_ARRAY_SIZE(names); i++) {
        expect(NULL, names[i], VD_GATE_REFUSED);
        expect("/", names[i], VD_GATE_REFUSED);
    }
}
END_TEST

START_TEST(a_name_with_a_nul_is_none)
{
    struct vd_err err;
    vd_auto_mem char *path = NULL;

    make_tree();
    ck_assert_int_eq(find_bytes("/", "base.raw\0.qed", 13, &path, &err), VD_GATE_REFUSED);
    ck_assert_int_eq(find_bytes("/", "base.raw\0", 9, &path, &err), VD_GATE_REFUSED);
    ck_assert_int_eq(find_bytes("/", "", 0, &path, &err), VD_GATE_REFUSED);
}
END_TEST

START_TEST(a_name_that_is_cut_off_by_its_length_is_read_no_further)
{
    struct vd_err err;
    vd_auto_mem char *path = NULL;

    make_tree();
    ck_assert_int_eq(find_bytes(NULL, "base.rawGARBAGE", 8, &path, &err), VD_GATE_OPEN);
    ck_assert_str_eq(path, absolute("disks/base.raw"));
}
END_TEST

START_TEST(a_name_longer_than_a_path_is_refused)
{
    static char name[3 * PATH_MAX];
    struct vd_err err;
    vd_auto_mem char *path = NULL;

    make_tree();
    for (size_t i = 0; i < sizeof(name); i += 2)
        memcpy(name + i, "./", 2);
    ck_assert_int_eq(find_bytes("/", name, sizeof(name), &path, &err), VD_GATE_REFUSED);
    ck_assert_int_eq(find_bytes("/", name, PATH_MAX, &path, &err), VD_GATE_REFUSED);
    ck_assert_int_ne(find_bytes("/", name, PATH_MAX - 1, &path, &err), VD_GATE_OPEN);
}
END_TEST

START_TEST(only_regular_files_are_followed)
{
    make_tree();
    ck_assert_int_eq(mkfifo("disks/fifo", 0644), 0);
    expect(NULL, "fifo", VD_GATE_REFUSED);
    expect(NULL, "sub", VD_GATE_REFUSED);
    expect(NULL, ".", VD_GATE_REFUSED);
    expect("/", "..", VD_GATE_REFUSED);
    expect("/", "/", VD_GATE_REFUSED);
    expect("/dev", "/dev/null", VD_GATE_REFUSED);
    expect(NULL, "/dev/null", VD_GATE_REFUSED);
    /* A device in the folder itself needs root to make. */
    if (mknod("disks/disk", S_IFBLK | 0600, makedev(7, 250)) == 0)
        expect("/", "disk", VD_GATE_REFUSED);
    else
        printf("skipped: only_regular_files_are_followed: no device node may be made here\n");
}
END_TEST

START_TEST(what_is_not_there_is_missing)
{
    make_tree();
    expect(NULL, "nothing", VD_GATE_MISSING);
    expect(NULL, "nothing/base.raw", VD_GATE_MISSING);
    expect(NULL, "base.raw/", VD_GATE_MISSING);
    expect(NULL, "base.raw/x", VD_GATE_MISSING);
}
END_TEST

START_TEST(an_image_named_without_a_folder_lies_here)
{
    struct vd_gate gate = {0};
    struct vd_err err = VD_ERR_INIT;
    vd_auto_mem char *path = NULL;
    vd_auto_mem char *outside = NULL;

    make_tree();
    ck_assert_int_eq(chdir("disks"), 0);
    ck_assert_int_eq(vd_gate_find(&gate, "image.qed", "base.raw", 8, &path, &err), VD_GATE_OPEN);
    ck_assert_int_eq(vd_gate_find(&gate, "image.qed", "../other/base.raw", 17, &outside, &err),
                     VD_GATE_REFUSED);
    ck_assert_int_eq(vd_gate_find(&gate, "/image.qed", "no-such-file", 12, &outside, &err), VD_GATE_MISSING);
}
END_TEST

/* report/ escapes what it prints, and only once. */
START_TEST(a_refusal_has_the_name_as_it_is)
{
    struct vd_err err;
    vd_auto_mem char *path = NULL;

    make_tree();
    ck_assert_int_eq(find_bytes(NULL, "\x1b[2Jx:", 6, &path, &err), VD_GATE_REFUSED);
    ck_assert_ptr_nonnull(strstr(err.story, "'\x1b[2Jx:'"));
}
END_TEST

START_TEST(what_was_found_is_opened)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) bs = NULL;
    char buf[3];

    make_tree();
    bs = vd_gate_open(absolute("disks/base.raw"), 0, &err);
    must_have(bs, &err);
    must(bdrv_pread(bs, 0, 3, buf, &err), &err);
    ck_assert_mem_eq(buf, "abc", 3);
    must_fail(bdrv_pwrite(bs, 0, 1, "x", VD_STAGE_NEW, &err), &err, VD_ERR_IO);
}
END_TEST

START_TEST(what_became_a_link_or_a_fifo_since_is_refused)
{
    struct vd_err err;

    make_tree();
    ck_assert_int_eq(unlink("disks/base.raw"), 0);
    ck_assert_int_eq(symlink("../other/base.raw", "disks/base.raw"), 0);
    must_be_null(vd_gate_open(absolute("disks/base.raw"), 0, &err), &err, VD_ERR_IO);
    ck_assert_int_eq(rename("disks/sub", "disks/sub-moved"), 0);
    ck_assert_int_eq(symlink("../other", "disks/sub"), 0);
    must_be_null(vd_gate_open(absolute("disks/sub/base.raw"), 0, &err), &err, VD_ERR_IO);
    ck_assert_int_eq(mkfifo("disks/fifo", 0644), 0);
    must_be_null(vd_gate_open(absolute("disks/fifo"), 0, &err), &err, VD_ERR_REFUSED);
    must_be_null(vd_gate_open(absolute("disks/nothing"), 0, &err), &err, VD_ERR_IO);
    must_be_null(vd_gate_open(absolute("disks"), 0, &err), &err, VD_ERR_REFUSED);
}
END_TEST

UNIT_TESTS("gate", a_file_in_the_images_folder_is_followed, a_file_outside_is_refused,
           an_allowed_folder_widens_the_gate_and_no_other,
           a_link_out_of_the_folder_is_refused_and_one_inside_is_followed,
           a_protocol_is_refused_whatever_is_allowed, a_name_with_a_nul_is_none,
           a_name_that_is_cut_off_by_its_length_is_read_no_further, a_name_longer_than_a_path_is_refused,
           only_regular_files_are_followed, what_is_not_there_is_missing,
           an_image_named_without_a_folder_lies_here, a_refusal_has_the_name_as_it_is,
           what_was_found_is_opened, what_became_a_link_or_a_fifo_since_is_refused)
