/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "repair/undofile.h"

#include "tests/unit/unit.h"

#define ALL_STATES 0x1fu

/* A journal in that state, on disk. main_path: the journal that holds the state of its transaction, or NULL.
 */
static void make_journal(const char *path, enum vd_journal_state state, const char *main_path)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(vd_journal) journal = vd_journal_create(path, NULL, &err);

    must_have(journal, &err);
    must(vd_journal_set(journal, "name", path, &err), &err);
    if (main_path)
        must(vd_journal_set(journal, "main", main_path, &err), &err);
    if (state != VD_JOURNAL_EMPTY)
        must(vd_journal_set_state(journal, state, &err), &err);
}

/* The name of the journal that is found, or "" for none. */
static const char *find(const char *image, unsigned wanted, enum vd_journal_state *state)
{
    static char path[4096];
    struct vd_err err = VD_ERR_INIT;
    vd_auto(vd_journal) journal = vd_undofile_find(image, NULL, wanted, false, state, &err);

    ck_assert_msg(err.kind == VD_ERR_NONE, "%s", err.story);
    snprintf(path, sizeof(path), "%s", journal ? vd_journal_path(journal) : "");
    return path;
}

static void expect_next(const char *image, const char *expected)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto_mem char *name = vd_undofile_next(image, &err);

    must_have(name, &err);
    ck_assert_str_eq(name, expected);
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* ---- names */

START_TEST(names_count_up_beside_the_image)
{
    ck_assert_int_eq(mkdir("disks", 0755), 0);
    expect_next("disks/a.qed", "disks/a.qed.vdcheck-undo");
    vd_unit_write_file("disks/a.qed.vdcheck-undo", "", 0);
    expect_next("disks/a.qed", "disks/a.qed.vdcheck-undo.1");
    vd_unit_write_file("disks/a.qed.vdcheck-undo.1", "", 0);
    expect_next("disks/a.qed", "disks/a.qed.vdcheck-undo.2");
    expect_next("disks/b.qed", "disks/b.qed.vdcheck-undo");
}
END_TEST

START_TEST(a_dangling_link_is_a_name_that_is_taken)
{
    ck_assert_int_eq(symlink("nowhere", "a.qed.vdcheck-undo"), 0);
    expect_next("a.qed", "a.qed.vdcheck-undo.1");
}
END_TEST

/* People delete undo files, the oldest first: the highest number stays the newest. */
START_TEST(a_deleted_undo_file_hides_no_newer_one)
{
    enum vd_journal_state state;

    make_journal("a.qed.vdcheck-undo", VD_JOURNAL_UNDONE, NULL);
    make_journal("a.qed.vdcheck-undo.1", VD_JOURNAL_COMMITTED, NULL);
    make_journal("a.qed.vdcheck-undo.2", VD_JOURNAL_PREPARED, NULL);
    ck_assert_int_eq(unlink("a.qed.vdcheck-undo"), 0);
    ck_assert_str_eq(find("a.qed", VD_UNFINISHED, &state), "a.qed.vdcheck-undo.2");
    expect_next("a.qed", "a.qed.vdcheck-undo.3");
    ck_assert_int_eq(unlink("a.qed.vdcheck-undo.1"), 0);
    ck_assert_str_eq(find("a.qed", ALL_STATES, &state), "a.qed.vdcheck-undo.2");
    expect_next("a.qed", "a.qed.vdcheck-undo.3");
}
END_TEST

START_TEST(ten_thousand_undo_files_are_enough)
{
    struct vd_err err;
    char name[60];

    vd_unit_write_file("a.qed.vdcheck-undo", "", 0);
    for (int i = 1; i < 10000; i++) {
        int fd;

        snprintf(name, sizeof(name), "a.qed.vdcheck-undo.%d", i);
        fd = open(name, O_WRONLY | O_CREAT, 0600); /* an assertion each would take too long */
        if (fd < 0 || close(fd) < 0)
            ck_abort_msg("%s", name);
    }
    must_be_null(vd_undofile_next("a.qed", &err), &err, VD_ERR_LIMIT);
    ck_assert_int_eq(unlink("a.qed.vdcheck-undo.9999"), 0);
    expect_next("a.qed", "a.qed.vdcheck-undo.9999");
}
END_TEST

/* ---- finding */

START_TEST(without_an_undo_file_there_is_none_and_no_error)
{
    enum vd_journal_state state;

    ck_assert_str_eq(find("a.qed", ALL_STATES, &state), "");
    ck_assert_str_eq(find("no-such-folder/a.qed", ALL_STATES, &state), "");
}
END_TEST

START_TEST(the_newest_in_a_wanted_state_is_found)
{
    enum vd_journal_state state = VD_JOURNAL_EMPTY;

    make_journal("a.qed.vdcheck-undo", VD_JOURNAL_COMMITTED, NULL);
    make_journal("a.qed.vdcheck-undo.1", VD_JOURNAL_COMMITTED, NULL);
    make_journal("a.qed.vdcheck-undo.2", VD_JOURNAL_UNDONE, NULL);
    ck_assert_str_eq(find("a.qed", 1u << VD_JOURNAL_COMMITTED, &state), "a.qed.vdcheck-undo.1");
    ck_assert_int_eq(state, VD_JOURNAL_COMMITTED);
    ck_assert_str_eq(find("a.qed", ALL_STATES, &state), "a.qed.vdcheck-undo.2");
    ck_assert_int_eq(state, VD_JOURNAL_UNDONE);
    ck_assert_str_eq(find("a.qed", VD_UNFINISHED, &state), "");
}
END_TEST

START_TEST(a_file_of_that_name_that_is_no_journal_is_an_error)
{
    enum vd_journal_state state;
    struct vd_err err = VD_ERR_INIT;
    uint8_t noise[5000];

    vd_unit_noise(noise, sizeof(noise), 1);
    vd_unit_write_file("a.qed.vdcheck-undo", noise, sizeof(noise));
    ck_assert_ptr_null(vd_undofile_find("a.qed", NULL, VD_UNFINISHED, false, &state, &err));
    ck_assert_int_eq(err.kind, VD_ERR_FORMAT);
}
END_TEST

/* ---- chains */

START_TEST(a_member_has_the_state_of_the_main_journal)
{
    enum vd_journal_state state;

    make_journal("top.qed.vdcheck-undo", VD_JOURNAL_PREPARED, NULL);
    make_journal("base.qed.vdcheck-undo", VD_JOURNAL_COMMITTED, "top.qed.vdcheck-undo");
    ck_assert_str_eq(find("base.qed", VD_UNFINISHED, &state), "base.qed.vdcheck-undo");
    ck_assert_int_eq(state, VD_JOURNAL_PREPARED);
}
END_TEST

START_TEST(a_member_whose_main_journal_was_never_prepared_is_empty)
{
    enum vd_journal_state state;

    make_journal("top.qed.vdcheck-undo", VD_JOURNAL_EMPTY, NULL);
    make_journal("base.qed.vdcheck-undo", VD_JOURNAL_PREPARED, "top.qed.vdcheck-undo");
    ck_assert_str_eq(find("base.qed", VD_UNFINISHED, &state), "");
    ck_assert_str_eq(find("base.qed", 1u << VD_JOURNAL_EMPTY, &state), "base.qed.vdcheck-undo");
    ck_assert_int_eq(unlink("top.qed.vdcheck-undo"), 0);
    ck_assert_str_eq(find("base.qed", VD_UNFINISHED, &state), "");
}
END_TEST

/* What a committed repair kept as evidence stays evidence, though people deleted the other undo file. */
START_TEST(a_committed_member_whose_main_journal_is_gone_is_committed)
{
    enum vd_journal_state state;

    make_journal("base.qed.vdcheck-undo", VD_JOURNAL_COMMITTED, "top.qed.vdcheck-undo");
    ck_assert_str_eq(find("base.qed", 1u << VD_JOURNAL_COMMITTED, &state), "base.qed.vdcheck-undo");
    vd_undofile_sweep("base.qed");
    ck_assert(exists("base.qed.vdcheck-undo"));
}
END_TEST

/* ---- the stub */

START_TEST(a_stub_names_a_journal_elsewhere)
{
    struct vd_err err = VD_ERR_INIT;
    enum vd_journal_state state;
    char expected[4096];
    vd_auto_mem char *stub = vd_undofile_stub("a.qed", &err);

    must_have(stub, &err);
    ck_assert_str_eq(stub, "a.qed.vdcheck-stub");
    ck_assert_int_eq(mkdir("elsewhere", 0755), 0);
    make_journal("elsewhere/undo", VD_JOURNAL_PREPARED, NULL);
    make_journal("a.qed.vdcheck-undo", VD_JOURNAL_COMMITTED, NULL);
    must(vd_undofile_write_stub("a.qed", "elsewhere/undo", &err), &err);
    ck_assert_ptr_nonnull(realpath("elsewhere/undo", expected));
    ck_assert_str_eq(find("a.qed", VD_UNFINISHED, &state), expected);
    ck_assert_int_eq(state, VD_JOURNAL_PREPARED);
    ck_assert_str_eq(find("a.qed", 1u << VD_JOURNAL_COMMITTED, &state), "a.qed.vdcheck-undo");
    vd_undofile_remove_stub("a.qed", "a.qed.vdcheck-undo"); /* which it does not name */
    ck_assert(exists("a.qed.vdcheck-stub"));
    vd_undofile_remove_stub("a.qed", "elsewhere/undo");
    ck_assert(!exists("a.qed.vdcheck-stub"));
    ck_assert_str_eq(find("a.qed", VD_UNFINISHED, &state), "");
    vd_undofile_remove_stub("a.qed", "elsewhere/undo"); /* not there: nothing to do */
    vd_unit_write_file("a.qed", "", 0);
    must(vd_undofile_write_stub("a.qed", "a.qed.vdcheck-undo", &err), &err);
    ck_assert(!exists("a.qed.vdcheck-stub")); /* it is found without one */
}
END_TEST

/* A repair may be half done, and nobody can tell. */
START_TEST(a_stub_whose_journal_is_gone_is_an_error)
{
    struct vd_err err = VD_ERR_INIT;
    enum vd_journal_state state;

    must(vd_undofile_write_stub("a.qed", "elsewhere/undo", &err), &err);
    ck_assert_ptr_null(vd_undofile_find("a.qed", NULL, ALL_STATES, false, &state, &err));
    ck_assert_int_eq(err.kind, VD_ERR_REFUSED);
    vd_unit_write_file("a.qed.vdcheck-stub", "", 0);
    ck_assert_str_eq(find("a.qed", ALL_STATES, &state), "");
}
END_TEST

START_TEST(a_stub_is_no_way_to_write_or_hang_elsewhere)
{
    struct vd_err err;
    enum vd_journal_state state;

    ck_assert_int_eq(symlink("victim", "a.qed.vdcheck-stub"), 0);
    must_fail(vd_undofile_write_stub("a.qed", "undo", &err), &err, VD_ERR_IO);
    ck_assert(!exists("victim"));
    ck_assert_int_eq(mkfifo("b.qed.vdcheck-stub", 0644), 0);
    ck_assert_str_eq(find("b.qed", ALL_STATES, &state), "");
    must_fail(vd_undofile_write_stub("no-such-folder/a.qed", "undo", &err), &err, VD_ERR_IO);
}
END_TEST

/* ---- evidence */

static void make_keeping(const char *path, enum vd_journal_state state, uint64_t cluster)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(vd_journal) journal = vd_journal_create(path, NULL, &err);
    struct vd_runs leaks = {0};

    must_have(journal, &err);
    ck_assert_int_eq(vd_runs_add(&leaks, cluster, 2), 0);
    must(vd_journal_keep_leaks(journal, &leaks, 65536, &err), &err);
    must(vd_journal_set_state(journal, state, &err), &err);
    vd_runs_done(&leaks);
}

START_TEST(kept_leaks_are_those_of_all_repairs_that_stand)
{
    struct vd_err err = VD_ERR_INIT;
    struct vd_runs leaks = {0};

    must(vd_undofile_kept_leaks("a.qed", &leaks, &err), &err);
    ck_assert_uint_eq(leaks.n, 0);
    make_keeping("a.qed.vdcheck-undo", VD_JOURNAL_COMMITTED, 10);
    make_keeping("a.qed.vdcheck-undo.1", VD_JOURNAL_UNDONE, 20);
    make_keeping("a.qed.vdcheck-undo.2", VD_JOURNAL_COMMITTED, 5);
    make_keeping("a.qed.vdcheck-undo.3", VD_JOURNAL_COMMITTED, 30);
    ck_assert_int_eq(unlink("a.qed.vdcheck-undo"), 0);
    must(vd_undofile_kept_leaks("a.qed", &leaks, &err), &err);
    ck_assert_uint_eq(vd_runs_total(&leaks), 4);
    ck_assert(vd_runs_has_all(&leaks, 5, 2) && vd_runs_has_all(&leaks, 30, 2));
    vd_runs_done(&leaks);
}
END_TEST

START_TEST(evidence_that_cannot_be_read_is_an_error)
{
    struct vd_err err = VD_ERR_INIT;
    struct vd_runs leaks = {0};
    uint8_t noise[5000];

    vd_unit_noise(noise, sizeof(noise), 1);
    make_keeping("a.qed.vdcheck-undo", VD_JOURNAL_COMMITTED, 10);
    vd_unit_write_file("a.qed.vdcheck-undo.1", noise, sizeof(noise));
    must_fail(vd_undofile_kept_leaks("a.qed", &leaks, &err), &err, VD_ERR_FORMAT);
    vd_runs_done(&leaks);
}
END_TEST

/* ---- in a folder for many */

static char *next_in(const char *folder, const char *image)
{
    struct vd_err err = VD_ERR_INIT;
    char *name = vd_undofile_next_in(folder, image, &err);

    must_have(name, &err);
    return name;
}

START_TEST(in_a_folder_for_many_each_image_has_names_of_its_own)
{
    char *names[4], longest[256];

    ck_assert_int_eq(mkdir("undo", 0755) + mkdir("x", 0755) + mkdir("y", 0755), 0);
    vd_unit_write_file("x/a.qed", "", 0);
    ck_assert_int_eq(symlink("x/a.qed", "link"), 0);
    names[0] = next_in("undo", "x/a.qed");
    names[1] = next_in("undo", "y/a.qed");
    names[2] = next_in("undo", "link");
    ck_assert_str_ne(names[0], names[1]);
    ck_assert_str_eq(names[0], names[2]); /* by whatever name it is called */
    ck_assert_ptr_eq(strstr(names[0], "undo/a.qed-"), names[0]);
    vd_unit_write_file(names[0], "", 0);
    names[3] = next_in("undo", "x/a.qed");
    ck_assert_ptr_eq(strstr(names[3], names[0]), names[3]);
    ck_assert_str_eq(names[3] + strlen(names[0]), ".1");
    for (size_t i = 0; i < 4; i++)
        free(names[i]);
    memset(longest, 'n', 255);
    longest[255] = '\0';
    names[0] = next_in("undo", longest);
    vd_unit_write_file(names[0], "", 0); /* with SQLite's own journal beside it, too */
    ck_assert_uint_lt(strlen(names[0]), strlen("undo/") + 255 - strlen("-journal"));
    free(names[0]);
}
END_TEST

START_TEST(what_was_never_prepared_there_goes_with_its_stub)
{
    struct vd_err err = VD_ERR_INIT;
    enum vd_journal_state state;
    vd_auto_mem char *name = NULL;

    ck_assert_int_eq(mkdir("undo", 0755), 0);
    vd_unit_write_file("a.qed", "", 0);
    name = next_in("undo", "a.qed");
    make_journal(name, VD_JOURNAL_EMPTY, NULL);
    must(vd_undofile_write_stub("a.qed", name, &err), &err);
    vd_undofile_sweep_in("undo", "b.qed");
    ck_assert(exists(name));
    vd_undofile_sweep_in("undo", "a.qed");
    ck_assert(!exists(name) && !exists("a.qed.vdcheck-stub"));
    ck_assert_str_eq(find("a.qed", ALL_STATES, &state), "");
    make_journal(name, VD_JOURNAL_PREPARED, NULL);
    must(vd_undofile_write_stub("a.qed", name, &err), &err);
    vd_undofile_sweep_in("undo", "a.qed");
    ck_assert(exists(name) && exists("a.qed.vdcheck-stub"));
}
END_TEST

/* ---- sweeping */

START_TEST(sweeping_takes_only_what_was_never_prepared)
{
    static const enum vd_journal_state states[] = {VD_JOURNAL_PREPARED, VD_JOURNAL_COMMITTED,
                                                   VD_JOURNAL_UNDOING, VD_JOURNAL_UNDONE};

    for (size_t i = 0; i < VD_ARRAY_SIZE(states); i++) {
        make_journal("a.qed.vdcheck-undo", states[i], NULL);
        vd_undofile_sweep("a.qed");
        ck_assert(exists("a.qed.vdcheck-undo"));
        ck_assert_int_eq(unlink("a.qed.vdcheck-undo"), 0);
    }
    make_journal("a.qed.vdcheck-undo", VD_JOURNAL_COMMITTED, NULL);
    make_journal("a.qed.vdcheck-undo.1", VD_JOURNAL_EMPTY, NULL);
    vd_undofile_sweep("a.qed");
    ck_assert(exists("a.qed.vdcheck-undo") && !exists("a.qed.vdcheck-undo.1"));
    vd_undofile_sweep("a.qed");
    ck_assert(exists("a.qed.vdcheck-undo"));
    vd_unit_write_file("b.qed.vdcheck-undo", "", 0); /* made, and nothing more */
    vd_undofile_sweep("b.qed");
    ck_assert(!exists("b.qed.vdcheck-undo"));
}
END_TEST

START_TEST(sweeping_leaves_what_it_cannot_read)
{
    uint8_t noise[16384];
    int fd;

    vd_unit_noise(noise, sizeof(noise), 1);
    vd_unit_write_file("a.qed.vdcheck-undo", "somebody's notes", 16);
    vd_undofile_sweep("a.qed");
    ck_assert(exists("a.qed.vdcheck-undo"));
    /* A prepared journal whose first table was destroyed by the disk. */
    make_journal("b.qed.vdcheck-undo", VD_JOURNAL_PREPARED, NULL);
    fd = open("b.qed.vdcheck-undo", O_WRONLY);
    ck_assert_int_eq(pwrite(fd, noise, sizeof(noise), sizeof(noise)), sizeof(noise));
    close(fd);
    vd_undofile_sweep("b.qed");
    ck_assert(exists("b.qed.vdcheck-undo"));
}
END_TEST

UNIT_TESTS("undofile", names_count_up_beside_the_image, in_a_folder_for_many_each_image_has_names_of_its_own,
           what_was_never_prepared_there_goes_with_its_stub, a_dangling_link_is_a_name_that_is_taken,
           a_deleted_undo_file_hides_no_newer_one, ten_thousand_undo_files_are_enough,
           without_an_undo_file_there_is_none_and_no_error, the_newest_in_a_wanted_state_is_found,
           a_file_of_that_name_that_is_no_journal_is_an_error, a_member_has_the_state_of_the_main_journal,
           a_member_whose_main_journal_was_never_prepared_is_empty,
           a_committed_member_whose_main_journal_is_gone_is_committed, a_stub_names_a_journal_elsewhere,
           a_stub_whose_journal_is_gone_is_an_error, a_stub_is_no_way_to_write_or_hang_elsewhere,
           kept_leaks_are_those_of_all_repairs_that_stand, evidence_that_cannot_be_read_is_an_error,
           sweeping_takes_only_what_was_never_prepared, sweeping_leaves_what_it_cannot_read)
