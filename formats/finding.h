/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Findings: the rows that say what can be wrong.
 *
 * A row stands in the findings.def of its format (or in image-findings.def, for what holds for all formats):
 *
 *     F(symbol, id, severity, level, flags, message, repair, explanation)
 *
 * From the rows come the enumerators that a driver names, the texts of every output, `vdcheck explain`, the
 * manual page and the list of fixtures that must exist.
 */
#ifndef VD_FINDING_H
#define VD_FINDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum vd_severity { VD_CORRUPTION = 1, VD_LEAK, VD_STATE, VD_WARNING, VD_ERROR };

/* The lowest repair level that repairs a finding. */
enum vd_level { VD_LEVEL_LEAKS = 1, VD_LEVEL_SAFE, VD_LEVEL_ALL, VD_LEVEL_NONE };

enum {
    /* A mapping is or was wrong: what is unreferenced now may be somebody's data, and is not freed below
       `all`. */
    VD_EVIDENCE = 1,
    /* Nothing below `all` may be repaired in the whole image while this is there: take a copy first. */
    VD_HOLD = 2,
    /* Nothing may be repaired at any level while this is there: the walk itself may rest on a wrong header.
     */
    VD_FREEZE = 4,
    /* The image needs something that the driver does not have: its status is `unsupported`. */
    VD_UNSUPPORTED = 8,
    /* An orphan that waits for its reference: corruption, but none that says where else it could belong. */
    VD_ORPHAN = 32,
    /* A flag that a repair itself sets where it leaves corruption, to keep writers away: it is not worse. */
    VD_GUARD = 64,
    /* The damage is in another file: nothing in this one can have been lost by it, and nothing waits for it.
     */
    VD_ELSEWHERE = 128,
    /* Its repair gives the backing file up: what that file would have given is lost. */
    VD_LOSES_BASE = 256,
    /* Set by the sink, not by rows: corruption was found, in this round of a repair or an earlier one. */
    VD_SAW_CORRUPTION = 16,
};

struct vd_finding_kind {
    const char *id;
    enum vd_severity severity;
    enum vd_level level;
    unsigned flags;
    const char *message;
    const char *repair; /* what a repair does, or why there is none */
    const char *explanation;
};

/* Numbers of image findings begin here; below are those of the driver at hand. */
enum { VD_IMAGE_FINDINGS = 0x10000 };

#define F(symbol, ...) VD_##symbol,
enum vd_image_finding {
    VD_IMAGE_FINDINGS_BEFORE = VD_IMAGE_FINDINGS - 1,
#include "formats/image-findings.def"
    VD_IMAGE_FINDINGS_END
};
#undef F

/* The flags that a finding of this kind adds to what is known of the image. */
static inline unsigned vd_finding_flags(const struct vd_finding_kind *kind, enum vd_severity severity)
{
    return kind->flags |
           (severity == VD_CORRUPTION && !(kind->flags & (VD_ORPHAN | VD_ELSEWHERE)) ? VD_SAW_CORRUPTION : 0);
}

extern const struct vd_finding_kind vd_image_findings[];
extern const size_t vd_image_findings_n;

const char *vd_severity_name(enum vd_severity severity);
const char *vd_level_name(enum vd_level level);

/* Reads "leaks", "safe", "all"; false for another word. */
bool vd_level_parse(const char *word, enum vd_level *level);

#endif
