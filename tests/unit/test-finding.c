/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The rows of all findings, and the registry of formats that they come from. */
#include "formats/finding.h"

#include "formats/base/text.h"
#include "formats/node/block.h"
#include "formats/registry.h"
#include "tests/unit/unit.h"

START_TEST(every_row_is_complete_and_found_by_its_id)
{
    const struct vd_finding_kind *row;
    size_t i;

    for (i = 0; (row = vd_finding_row(i)); i++) {
        ck_assert_msg(vd_finding_by_id(row->id) == row, "%s is there twice", row->id);
        ck_assert_ptr_nonnull(strchr(row->id, '.'));
        ck_assert_msg(strlen(row->message) > 0 && strlen(row->repair) > 0 && strlen(row->explanation) > 0,
                      "%s", row->id);
        ck_assert(vd_text_is_plain(row->message, strlen(row->message)));
        ck_assert(row->severity >= VD_CORRUPTION && row->severity <= VD_ERROR);
        ck_assert(row->level >= VD_LEVEL_LEAKS && row->level <= VD_LEVEL_NONE);
    }
    ck_assert_uint_gt(i, vd_image_findings_n);
    ck_assert_ptr_null(vd_finding_row(SIZE_MAX));
    ck_assert_ptr_null(vd_finding_by_id("qed.no-such-finding"));
    ck_assert_ptr_null(vd_finding_by_id(""));
}
END_TEST

/* What the levels mean for every format. */
START_TEST(no_row_has_a_level_that_its_severity_forbids)
{
    const struct vd_finding_kind *row;

    for (size_t i = 0; (row = vd_finding_row(i)); i++) {
        bool is_ok = row->severity == VD_WARNING      ? row->level >= VD_LEVEL_ALL
                     : row->severity == VD_ERROR      ? row->level == VD_LEVEL_NONE
                     : row->severity == VD_CORRUPTION ? row->level >= VD_LEVEL_SAFE
                                                      : true;

        ck_assert_msg(is_ok, "%s: %s at level %s", row->id, vd_severity_name(row->severity),
                      vd_level_name(row->level));
        if (strstr(row->id, "-unreadable"))
            ck_assert_msg(row->severity == VD_ERROR, "%s", row->id);
    }
}
END_TEST

START_TEST(enumerators_of_the_image_name_their_rows)
{
    ck_assert_uint_eq(VD_IMAGE_FINDINGS_END - VD_IMAGE_FINDINGS, vd_image_findings_n);
    ck_assert_str_eq(vd_image_findings[VD_IMAGE_BACKING_MISSING - VD_IMAGE_FINDINGS].id,
                     "image.backing-missing");
    ck_assert_str_eq(vd_image_findings[VD_IMAGE_CHANGED_WHILE_READ - VD_IMAGE_FINDINGS].id,
                     "image.changed-while-read");
}
END_TEST

START_TEST(levels_are_read_and_named)
{
    enum vd_level level = VD_LEVEL_NONE;

    ck_assert(vd_level_parse("leaks", &level) && level == VD_LEVEL_LEAKS);
    ck_assert(vd_level_parse("safe", &level) && level == VD_LEVEL_SAFE);
    ck_assert(vd_level_parse("all", &level) && level == VD_LEVEL_ALL);
    ck_assert(!vd_level_parse("none", &level) && !vd_level_parse("", &level) &&
              !vd_level_parse("ALL", &level));
    ck_assert_int_eq(level, VD_LEVEL_ALL);
    ck_assert_str_eq(vd_level_name(VD_LEVEL_NONE), "none");
    ck_assert_str_eq(vd_severity_name(VD_CORRUPTION), "corruption");
    ck_assert_str_eq(vd_severity_name(VD_ERROR), "error");
}
END_TEST

START_TEST(formats_are_found_by_either_name)
{
    const struct BlockDriver *drv;

    for (size_t i = 0; (drv = vd_driver_at(i)); i++) {
        ck_assert_ptr_eq(vd_driver_by_name(drv->format_name), drv);
        if (drv->qemu_name)
            ck_assert_ptr_eq(vd_driver_by_name(drv->qemu_name), drv);
        for (size_t k = 0; k < drv->findings_n; k++)
            ck_assert_int_eq(strncmp(drv->findings[k].id, drv->format_name, strlen(drv->format_name)), 0);
    }
    ck_assert_ptr_null(vd_driver_by_name("no-such-format"));
    ck_assert_ptr_null(vd_driver_by_name(""));
}
END_TEST

START_TEST(probing_never_answers_raw)
{
    uint8_t bytes[2048] = {0};
    int score = 7;

    ck_assert_ptr_null(vd_driver_probe(bytes, sizeof(bytes), 1 << 20, &score));
    ck_assert_int_eq(score, 0);
    ck_assert_ptr_null(vd_driver_probe(bytes, 0, 0, &score));
    vd_unit_noise(bytes, sizeof(bytes), 4);
    ck_assert_ptr_null(vd_driver_probe(bytes, sizeof(bytes), 1 << 20, &score));
    memcpy(bytes, "QED", 4);
    ck_assert_ptr_eq(vd_driver_probe(bytes, sizeof(bytes), 1 << 20, &score), vd_driver_by_name("qed"));
    ck_assert_int_eq(score, 100);
    ck_assert_ptr_null(vd_driver_probe(bytes, 3, 3, &score));
}
END_TEST

UNIT_TESTS("finding", every_row_is_complete_and_found_by_its_id, no_row_has_a_level_that_its_severity_forbids,
           enumerators_of_the_image_name_their_rows, levels_are_read_and_named,
           formats_are_found_by_either_name, probing_never_answers_raw)
