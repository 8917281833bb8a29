/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * QEMU's byte-range locks. They belong to open file descriptions, so two of one process stand for two
 * programs.
 */
#include "formats/node/lock.h"

#include "formats/base/auto.h"
#include "tests/unit/unit.h"

enum { LAST_BYTE = 310 };

static int open_image(int flags)
{
    int fd = open("image", flags | O_CREAT | O_CLOEXEC, 0644);

    ck_assert_int_ge(fd, 0);
    return fd;
}

/* What another program holds alone, as QEMU would: shared locks. */
static void hold(int fd, int byte, short type)
{
    struct flock fl = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    ck_assert_int_eq(fcntl(fd, F_OFD_SETLK, &fl), 0);
}

static bool is_held(int fd, int byte)
{
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    ck_assert_int_eq(fcntl(fd, F_OFD_GETLK, &fl), 0);
    return fl.l_type != F_UNLCK;
}

/* The bytes that somebody other than fd holds, as a text. */
static const char *held_by_others(int fd, char text[200])
{
    size_t at = 0;

    text[0] = '\0';
    for (int byte = 0; byte < LAST_BYTE; byte++)
        if (is_held(fd, byte))
            at += (size_t)snprintf(text + at, 200 - at, "%s%d", at ? " " : "", byte);
    return text;
}

/* The table, as the convention has it. */
static const struct {
    enum vd_lock_mode mode;
    const char *takes, *tests;
} modes[] = {
    {VD_LOCK_SHARE,  "100",                 "200"                },
    {VD_LOCK_READ,   "100 201 203",         "101 103 200"        },
    {VD_LOCK_WRITE,  "100 101 103 201 203", "101 103 200 201 203"},
    {VD_LOCK_GENTLE, "100",                 "101 103 200"        },
};

START_TEST(each_mode_takes_its_bytes_and_no_other)
{
    int ours = open_image(O_RDWR), other = open_image(O_RDWR);
    struct vd_err err = VD_ERR_INIT;
    char text[200];

    for (size_t i = 0; i < VD_ARRAY_SIZE(modes); i++) {
        ck_assert_int_eq(vd_lock_take(ours, modes[i].mode, "image", &err), VD_LOCK_TAKEN);
        ck_assert_str_eq(held_by_others(other, text), modes[i].takes);
    }
    close(ours);
    ck_assert_str_eq(held_by_others(other, text), "");
    close(other);
}
END_TEST

START_TEST(each_mode_refuses_its_bytes_and_no_other)
{
    int ours = open_image(O_RDWR);
    char refused[200], text[200];

    for (size_t i = 0; i < VD_ARRAY_SIZE(modes); i++) {
        size_t at = 0;

        refused[0] = '\0';
        for (int byte = 0; byte < LAST_BYTE; byte++) {
            int other = open_image(O_RDWR);
            struct vd_err err = VD_ERR_INIT;
            enum vd_lock_result result;

            hold(other, byte, F_RDLCK);
            result = vd_lock_take(ours, modes[i].mode, "image", &err);
            if (result != VD_LOCK_TAKEN) {
                ck_assert_int_eq(result, VD_LOCK_FAILED);
                ck_assert_int_eq(err.kind, VD_ERR_BUSY);
                ck_assert_str_eq(held_by_others(other, text), "");
                at += (size_t)snprintf(refused + at, sizeof(refused) - at, "%s%d", at ? " " : "", byte);
            }
            close(other);
        }
        ck_assert_str_eq(refused, modes[i].tests);
    }
    close(ours);
}
END_TEST

START_TEST(two_programs_get_along_as_the_table_says_whoever_comes_first)
{
    static const bool get_along[3][3] = {
        [VD_LOCK_SHARE] = {[VD_LOCK_SHARE] = true, [VD_LOCK_READ] = true,  [VD_LOCK_WRITE] = true },
        [VD_LOCK_READ] = {[VD_LOCK_SHARE] = true, [VD_LOCK_READ] = true,  [VD_LOCK_WRITE] = false},
        [VD_LOCK_WRITE] = {[VD_LOCK_SHARE] = true, [VD_LOCK_READ] = false, [VD_LOCK_WRITE] = false},
    };

    for (enum vd_lock_mode first = VD_LOCK_SHARE; first <= VD_LOCK_WRITE; first++)
        for (enum vd_lock_mode second = VD_LOCK_SHARE; second <= VD_LOCK_WRITE; second++) {
            int a = open_image(O_RDWR), b = open_image(O_RDWR);
            struct vd_err err = VD_ERR_INIT;

            ck_assert_int_eq(vd_lock_take(a, first, "image", &err), VD_LOCK_TAKEN);
            ck_assert_int_eq(vd_lock_take(b, second, "image", &err) == VD_LOCK_TAKEN,
                             get_along[first][second]);
            close(a);
            close(b);
        }
}
END_TEST

START_TEST(who_holds_everything_alone_keeps_everybody_out)
{
    int ours = open_image(O_RDWR), other = open_image(O_RDWR);
    struct vd_err err = VD_ERR_INIT;
    char text[200];

    hold(other, 100, F_WRLCK);
    for (size_t i = 0; i < VD_ARRAY_SIZE(modes); i++) {
        ck_assert_int_eq(vd_lock_take(ours, modes[i].mode, "image", &err), VD_LOCK_FAILED);
        ck_assert_int_eq(err.kind, VD_ERR_BUSY);
        ck_assert_str_eq(held_by_others(other, text), "");
    }
    close(ours);
    close(other);
}
END_TEST

START_TEST(an_upgrade_tests_again_and_a_failed_one_holds_nothing)
{
    int ours = open_image(O_RDWR), other = open_image(O_RDWR);
    struct vd_err err = VD_ERR_INIT;
    char text[200];

    ck_assert_int_eq(vd_lock_take(ours, VD_LOCK_READ, "image", &err), VD_LOCK_TAKEN);
    ck_assert_int_eq(vd_lock_take(other, VD_LOCK_READ, "image", &err), VD_LOCK_TAKEN);
    ck_assert_int_eq(vd_lock_take(ours, VD_LOCK_WRITE, "image", &err), VD_LOCK_FAILED);
    ck_assert_str_eq(held_by_others(other, text), "");
    ck_assert_str_eq(held_by_others(ours, text), "100 201 203");
    close(other);
    ck_assert_int_eq(vd_lock_take(ours, VD_LOCK_WRITE, "image", &err), VD_LOCK_TAKEN);
    close(ours);
}
END_TEST

START_TEST(of_two_racers_never_both_win)
{
    int a = open_image(O_RDWR), b = open_image(O_RDWR);
    struct vd_err err = VD_ERR_INIT;

    /* The other has taken all and not yet tested. */
    for (int i = 0; i < 5; i++)
        hold(b, (int[]){100, 101, 103, 201, 203}[i], F_RDLCK);
    ck_assert_int_eq(vd_lock_take(a, VD_LOCK_WRITE, "image", &err), VD_LOCK_FAILED);
    ck_assert_int_eq(vd_lock_take(b, VD_LOCK_WRITE, "image", &err), VD_LOCK_TAKEN);
    close(a);
    close(b);
}
END_TEST

START_TEST(a_descriptor_for_reading_is_enough_to_read_lock)
{
    int make = open_image(O_RDWR), ours = open_image(O_RDONLY);
    struct vd_err err = VD_ERR_INIT;
    char text[200];

    ck_assert_int_eq(vd_lock_take(ours, VD_LOCK_READ, "image", &err), VD_LOCK_TAKEN);
    ck_assert_str_eq(held_by_others(make, text), "100 201 203");
    ck_assert_int_eq(vd_lock_take(ours, VD_LOCK_SHARE, "image", &err), VD_LOCK_TAKEN);
    ck_assert_str_eq(held_by_others(make, text), "100");
    close(make);
    close(ours);
}
END_TEST

START_TEST(a_writer_is_seen_by_who_only_looks)
{
    int ours = open_image(O_RDWR), other = open_image(O_RDWR);
    struct vd_err err = VD_ERR_INIT;

    ck_assert_int_eq(vd_lock_take(ours, VD_LOCK_SHARE, "image", &err), VD_LOCK_TAKEN);
    ck_assert(!vd_lock_has_writer(ours));
    ck_assert_int_eq(vd_lock_take(other, VD_LOCK_READ, "image", &err), VD_LOCK_TAKEN);
    ck_assert(!vd_lock_has_writer(ours));
    close(other);
    other = open_image(O_RDWR);
    ck_assert_int_eq(vd_lock_take(other, VD_LOCK_WRITE, "image", &err), VD_LOCK_TAKEN);
    ck_assert(vd_lock_has_writer(ours));
    close(ours);
    close(other);
}
END_TEST

START_TEST(who_reads_gently_keeps_no_writer_out_and_sees_it_afterwards)
{
    int ours = open_image(O_RDWR), other = open_image(O_RDWR);
    struct vd_err err = VD_ERR_INIT;

    ck_assert_int_eq(vd_lock_take(ours, VD_LOCK_GENTLE, "image", &err), VD_LOCK_TAKEN);
    must(vd_lock_still_quiet(ours, "image", &err), &err);
    ck_assert_int_eq(vd_lock_take(other, VD_LOCK_READ, "image", &err), VD_LOCK_TAKEN);
    must(vd_lock_still_quiet(ours, "image", &err), &err);
    ck_assert_int_eq(vd_lock_take(other, VD_LOCK_WRITE, "image", &err), VD_LOCK_TAKEN);
    must_fail(vd_lock_still_quiet(ours, "image", &err), &err, VD_ERR_BUSY);
    close(other);
    must(vd_lock_still_quiet(ours, "image", &err), &err);
    close(ours);
}
END_TEST

START_TEST(the_story_names_the_file_and_what_the_other_does)
{
    int ours = open_image(O_RDWR), other = open_image(O_RDWR);
    struct vd_err err = VD_ERR_INIT;

    hold(other, 101, F_RDLCK);
    ck_assert_int_eq(vd_lock_take(ours, VD_LOCK_READ, "disk.qed", &err), VD_LOCK_FAILED);
    ck_assert_msg(strstr(err.story, "disk.qed") && strstr(err.story, "writing"), "%s", err.story);
    close(ours);
    close(other);
}
END_TEST

UNIT_TESTS("lock", each_mode_takes_its_bytes_and_no_other, each_mode_refuses_its_bytes_and_no_other,
           two_programs_get_along_as_the_table_says_whoever_comes_first,
           who_holds_everything_alone_keeps_everybody_out,
           an_upgrade_tests_again_and_a_failed_one_holds_nothing, of_two_racers_never_both_win,
           a_descriptor_for_reading_is_enough_to_read_lock, a_writer_is_seen_by_who_only_looks,
           who_reads_gently_keeps_no_writer_out_and_sees_it_afterwards,
           the_story_names_the_file_and_what_the_other_does)
