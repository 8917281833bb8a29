/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/finding.h"

#include <string.h>

#include "formats/base/auto.h"

#define F(symbol, id, severity, level, flags, message, repair, explanation)                                  \
    {id, VD_##severity, VD_LEVEL_##level, flags, message, repair, explanation},
const struct vd_finding_kind vd_image_findings[] = {
#include "formats/image-findings.def"
};
#undef F

const size_t vd_image_findings_n = VD_ARRAY_SIZE(vd_image_findings);

const char *vd_severity_name(enum vd_severity severity)
{
    static const char *const names[] = {[VD_CORRUPTION] = "corruption",
                                        [VD_LEAK] = "leak",
                                        [VD_STATE] = "state",
                                        [VD_WARNING] = "warning",
                                        [VD_ERROR] = "error"};

    return names[severity];
}

static const char *const level_names[] = {
    [VD_LEVEL_LEAKS] = "leaks", [VD_LEVEL_SAFE] = "safe", [VD_LEVEL_ALL] = "all", [VD_LEVEL_NONE] = "none"};

const char *vd_level_name(enum vd_level level)
{
    return level_names[level];
}

bool vd_level_parse(const char *word, enum vd_level *level)
{
    for (enum vd_level l = VD_LEVEL_LEAKS; l < VD_LEVEL_NONE; l++)
        if (strcmp(word, level_names[l]) == 0) {
            *level = l;
            return true;
        }
    return false;
}
