/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Finding images: by their bytes, once each, in one order, and past everything that is in the way.
 */
#include "checker/discover.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "formats/base/auto.h"
#include "tests/unit/unit.h"

/* As little of each as its probe wants. */
static void make_image(const char *path)
{
    uint8_t bytes[4096] = {'Q', 'E', 'D', 0, 0, 0, 1, 0, 4, 0, 0, 0, 1, 0, 0, 0};

    vd_unit_write_file(path, bytes, sizeof(bytes));
}

static unsigned complaints;

static void count_complaint(void *opaque, const struct vd_err *err)
{
    (void)opaque;
    ck_assert_int_ne(err->kind, VD_ERR_NONE);
    complaints++;
}

static struct vd_budget budget = VD_BUDGET_INIT;

static struct vd_discover_options plain_options(void)
{
    complaints = 0;
    return (struct vd_discover_options){.budget = &budget, .complain = count_complaint};
}

/* The last parts of what is found below the paths, in their order. */
static const char *found_below(const char *const *paths, size_t n, const struct vd_discover_options *opts,
                               char text[500])
{
    struct vd_candidate_vec found = {0};
    struct vd_err err = VD_ERR_INIT;
    size_t at = 0;

    must(vd_discover(paths, n, opts, &found, &err), &err);
    text[0] = '\0';
    for (size_t i = 0; i < found.n; i++) {
        ck_assert_int_eq(found.v[i].path[0], '/');
        at += (size_t)snprintf(text + at, 500 - at, "%s%s%s", at ? " " : "",
                               strrchr(found.v[i].path, '/') + 1, found.v[i].is_raw ? "(raw)" : "");
    }
    vd_candidates_free(&found);
    return text;
}

static const char *found_here(const struct vd_discover_options *opts, char text[500])
{
    const char *here = ".";

    return found_below(&here, 1, opts, text);
}

START_TEST(images_are_found_by_their_bytes_in_the_order_of_paths)
{
    struct vd_discover_options opts = plain_options();
    char text[500];

    mkdir("b", 0755);
    mkdir("b/deep", 0755);
    make_image("z.txt");
    make_image("b/deep/second");
    make_image("b/first.img");
    vd_unit_write_file("looks.qed", "no image at all", 15);
    vd_unit_write_file("empty.qed", "", 0);
    ck_assert_str_eq(found_here(&opts, text), "second first.img z.txt");
    ck_assert_uint_eq(complaints, 0);
}
END_TEST

START_TEST(what_is_no_plain_file_is_not_even_opened)
{
    struct vd_discover_options opts = plain_options();
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    char text[500];

    make_image("image");
    ck_assert_int_eq(mkfifo("fifo", 0644), 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(symlink("image", "link"), 0);
    ck_assert_int_eq(symlink(".", "loop"), 0);
    ck_assert_int_eq(symlink("nowhere", "dangling"), 0);
    if (geteuid() == 0)
        (void)mknod("disk", S_IFBLK | 0600, makedev(7, 200));
    opts.raw = true;
    ck_assert_str_eq(found_here(&opts, text), "image");
    ck_assert_uint_eq(complaints, 0);
    close(fd);
}
END_TEST

START_TEST(a_link_that_is_named_itself_is_followed)
{
    struct vd_discover_options opts = plain_options();
    const char *paths[] = {"link", "folder-link"};
    char text[500];

    mkdir("folder", 0755);
    make_image("image");
    make_image("folder/below");
    ck_assert_int_eq(symlink("image", "link"), 0);
    ck_assert_int_eq(symlink("folder", "folder-link"), 0);
    ck_assert_str_eq(found_below(paths, 2, &opts, text), "below image");
}
END_TEST

START_TEST(a_file_of_several_names_counts_once_by_the_first)
{
    struct vd_discover_options opts = plain_options();
    const char *paths[] = {"b", ".", "b/two", "b"};
    char text[500];

    mkdir("b", 0755);
    make_image("b/two");
    ck_assert_int_eq(link("b/two", "a"), 0);
    ck_assert_int_eq(link("b/two", "c"), 0);
    ck_assert_str_eq(found_below(paths, 4, &opts, text), "a");
}
END_TEST

START_TEST(patterns_are_for_names_and_with_a_slash_for_paths)
{
    struct vd_discover_options opts = plain_options();
    const char *const include[] = {"*.qed"}, *const exclude[] = {"old*", "*/keep/x.qed"};
    char text[500];

    mkdir("old", 0755);
    mkdir("keep", 0755);
    make_image("old/a.qed");
    make_image("old.qed");
    make_image("keep/x.qed");
    make_image("keep/y.qed");
    make_image("x.qed");
    make_image("x.img");
    opts.include = include;
    opts.include_n = 1;
    ck_assert_str_eq(found_here(&opts, text), "x.qed y.qed old.qed a.qed x.qed");
    opts.exclude = exclude;
    opts.exclude_n = 2;
    ck_assert_str_eq(found_here(&opts, text), "y.qed x.qed");
}
END_TEST

START_TEST(raw_is_what_no_format_knows_and_only_where_asked)
{
    struct vd_discover_options opts = plain_options();
    char text[500];

    make_image("a");
    vd_unit_write_file("raw", "\x55\xaa", 2);
    vd_unit_write_file("empty", "", 0);
    ck_assert_str_eq(found_here(&opts, text), "a");
    opts.raw = true;
    ck_assert_str_eq(found_here(&opts, text), "a raw(raw)");
}
END_TEST

START_TEST(our_own_files_and_databases_are_no_images)
{
    struct vd_discover_options opts = plain_options();
    const char *paths[] = {".", "a.vdcheck-undo.1", "a.vdcheck-stub", "data"};
    char text[500];

    make_image("a");
    make_image("a.vdcheck-undo");
    make_image("a.vdcheck-undo.1");
    make_image("a.vdcheck-stub");
    vd_unit_write_file("data", "SQLite format 3\0 and more", 24);
    opts.raw = true;
    ck_assert_str_eq(found_below(paths, 4, &opts, text), "a");
}
END_TEST

static bool knows_wreck(void *opaque, const char *path)
{
    (void)opaque;
    return strcmp(strrchr(path, '/'), "/wreck") == 0;
}

START_TEST(what_was_an_image_or_is_named_is_one_whatever_it_holds)
{
    struct vd_discover_options opts = plain_options();
    const char *paths[] = {".", "named"};
    char text[500];

    vd_unit_write_file("wreck", "\0\0\0\0", 4);
    vd_unit_write_file("named", "\0\0\0\0", 4);
    vd_unit_write_file("other", "\0\0\0\0", 4);
    opts.is_known = knows_wreck;
    ck_assert_str_eq(found_below(paths, 2, &opts, text), "named wreck");
}
END_TEST

START_TEST(names_of_any_bytes_are_taken_as_they_are)
{
    struct vd_discover_options opts = plain_options();
    char text[500];

    make_image("new\nline");
    make_image("\xff\xfe");
    make_image("<b>&amp;\"'");
    make_image("-rf");
    ck_assert_str_eq(found_here(&opts, text), "-rf <b>&amp;\"' new\nline \xff\xfe");
}
END_TEST

START_TEST(what_cannot_be_read_is_told_and_the_rest_is_found)
{
    struct vd_discover_options opts = plain_options();
    const char *paths[] = {"nowhere", ".", "fifo"};
    char text[500];
    bool is_root = geteuid() == 0;

    make_image("image");
    mkfifo("fifo", 0644);
    mkdir("shut", 0);
    ck_assert_str_eq(found_below(paths, 3, &opts, text), "image");
    ck_assert_uint_eq(complaints, is_root ? 2 : 3);
    chmod("shut", 0755);
}
END_TEST

START_TEST(folders_without_end_end)
{
    struct vd_discover_options opts = plain_options();
    char text[500];

    make_image("image");
    for (int i = 0; i < 600; i++) {
        ck_assert_int_eq(mkdir("d", 0755), 0);
        ck_assert_int_eq(chdir("d"), 0);
    }
    for (int i = 0; i < 600; i++)
        ck_assert_int_eq(chdir(".."), 0);
    ck_assert_str_eq(found_here(&opts, text), "image");
    ck_assert_uint_eq(complaints, 1);
}
END_TEST

START_TEST(an_identity_shows_every_change)
{
    struct vd_discover_options opts = plain_options();
    struct vd_candidate_vec before = {0}, after = {0};
    struct vd_err err = VD_ERR_INIT;
    const char *here = ".";
    int fd;

    make_image("image");
    must(vd_discover(&here, 1, &opts, &before, &err), &err);
    ck_assert(!before.v[0].id.is_settled);
    usleep(50000);
    must(vd_discover(&here, 1, &opts, &after, &err), &err);
    ck_assert_uint_eq(after.v[0].id.head_xxh, before.v[0].id.head_xxh);
    ck_assert_int_eq(after.v[0].id.mtime_ns, before.v[0].id.mtime_ns);
    vd_candidates_free(&after);
    fd = open("image", O_WRONLY);
    ck_assert_int_eq(pwrite(fd, "x", 1, 2000), 1);
    close(fd);
    must(vd_discover(&here, 1, &opts, &after, &err), &err);
    ck_assert_uint_ne(after.v[0].id.head_xxh, before.v[0].id.head_xxh);
    ck_assert_int_ne(after.v[0].id.mtime_ns, before.v[0].id.mtime_ns);
    ck_assert(!after.v[0].has_repair_files);
    vd_candidates_free(&after);
    vd_unit_write_file("image.vdcheck-undo", "", 0);
    must(vd_discover(&here, 1, &opts, &after, &err), &err);
    ck_assert(after.v[0].has_repair_files);
    vd_candidates_free(&after);
    vd_candidates_free(&before);
}
END_TEST

START_TEST(a_signal_ends_the_search)
{
    struct vd_discover_options opts = plain_options();
    struct vd_candidate_vec found = {0};
    volatile sig_atomic_t cancelled = 1;
    struct vd_budget ended = VD_BUDGET_INIT;
    struct vd_err err = VD_ERR_INIT;
    const char *here = ".";

    make_image("image");
    ended.cancelled = &cancelled;
    opts.budget = &ended;
    must_fail(vd_discover(&here, 1, &opts, &found, &err), &err, VD_ERR_CANCELLED);
    vd_candidates_free(&found);
}
END_TEST

UNIT_TESTS("discover", images_are_found_by_their_bytes_in_the_order_of_paths,
           what_is_no_plain_file_is_not_even_opened, a_link_that_is_named_itself_is_followed,
           a_file_of_several_names_counts_once_by_the_first,
           patterns_are_for_names_and_with_a_slash_for_paths,
           raw_is_what_no_format_knows_and_only_where_asked, our_own_files_and_databases_are_no_images,
           what_was_an_image_or_is_named_is_one_whatever_it_holds, names_of_any_bytes_are_taken_as_they_are,
           what_cannot_be_read_is_told_and_the_rest_is_found, folders_without_end_end,
           an_identity_shows_every_change, a_signal_ends_the_search)
