/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "report/report.h"

#include <inttypes.h>
#include <string.h>

#include "formats/base/text.h"
#include "report/render.h"

enum { PIECE = 240 }; /* bytes of a text that are escaped at once */

enum vd_status vd_report_status(const struct vd_farm_image *image)
{
    return vd_status_by_name(image->newest.status);
}

bool vd_report_is_raw(const struct vd_farm_image *image)
{
    return vd_report_status(image) == VD_STATUS_UNSUPPORTED && image->newest.format &&
           strcmp(image->newest.format, "raw") == 0;
}

bool vd_report_needs_attention(const struct vd_farm_image *image)
{
    enum vd_status status = vd_report_status(image);

    return status != VD_STATUS_CLEAN && status != VD_STATUS_REPAIRED && status != VD_STATUS_BUSY &&
           !vd_report_is_raw(image);
}

int vd_report_weight(enum vd_status status)
{
    static const int weights[] = {
        [VD_STATUS_CLEAN] = 0, [VD_STATUS_REPAIRED] = 1,
        [VD_STATUS_BUSY] = 2,  [VD_STATUS_LEAKING] = 4,
        [VD_STATUS_DIRTY] = 5, [VD_STATUS_UNSUPPORTED] = 3,
        [VD_STATUS_ERROR] = 6, [VD_STATUS_DAMAGED] = VD_REPORT_WORST,
    };

    return weights[status];
}

/* ---- repairs */

int vd_report_repair(const struct vd_farm_image *image, json_t **repair, struct vd_err *err)
{
    const struct vd_farm_result *r = &image->newest;

    *repair = NULL;
    if (!r->has_undo_file && !r->is_refused)
        return 0;
    if (vd_farm_json(r->repair, repair, err) < 0)
        return -1;
    /* It was one when the row was read. */
    return *repair ? 0 : vd_fail_memory(err);
}

int vd_report_undo(const json_t *repair, char buf[VD_REPORT_COMMAND_MAX], struct vd_err *err)
{
    static const char begin[] = "vdcheck undo ";
    vd_auto_mem char *file = vd_json_bytes(repair, "undo_file");

    if (!file)
        return vd_fail_memory(err);
    memcpy(buf, begin, sizeof(begin));
    vd_text_shell(buf + sizeof(begin) - 1, VD_TEXT_SHELL_MAX, file);
    return 0;
}

static bool is_of_last_run(const struct vd_farm_image *image)
{
    return strcmp(image->newest.run, image->last_run) == 0;
}

bool vd_report_was_repaired(const struct vd_farm_image *image)
{
    return image->newest.has_undo_file && is_of_last_run(image);
}

bool vd_report_was_not_repaired(const struct vd_farm_image *image)
{
    const struct vd_farm_result *r = &image->newest;

    return is_of_last_run(image) && (r->is_refused || (r->repair && r->reason && !r->has_undo_file));
}

/* ---- news */

bool vd_report_is_news(const struct vd_farm_image *image)
{
    return image->is_changed || (image->is_new && vd_report_needs_attention(image)) ||
           vd_report_was_repaired(image);
}

bool vd_report_is_whole(const struct vd_farm *farm)
{
    for (size_t i = 0; i < farm->runs.n; i++)
        if (farm->runs.v[i].is_newest_of_file && farm->runs.v[i].unreadable > 0)
            return false;
    return !farm->notes.n;
}

bool vd_report_has_several_hosts(const struct vd_farm *farm)
{
    return farm->images.n && strcmp(farm->images.v[0].host, farm->images.v[farm->images.n - 1].host) != 0;
}

/* ---- what to type next */

/* A flag is cleared only after the corruption; and it is not, nor is anything freed, while it is not known
 * what is used. */
static bool has_to_wait(const struct vd_farm_result *r, const char *severity)
{
    bool is_state = strcmp(severity, "state") == 0;

    return (is_state && r->numbers[VD_FARM_CORRUPTIONS] > 0) ||
           ((is_state || strcmp(severity, "leak") == 0) && r->numbers[VD_FARM_ERRORS] > 0);
}

/* The lowest level at which something is repaired. */
static enum vd_level level_of(const struct vd_farm_result *r)
{
    enum vd_level lowest = VD_LEVEL_NONE, level;

    for (size_t i = 0; i < r->findings.n; i++) {
        const struct vd_farm_finding *finding = &r->findings.v[i];

        if (strcmp(finding->severity, "warning") != 0 && vd_level_parse(finding->level, &level) &&
            level < lowest && !has_to_wait(r, finding->severity))
            lowest = level;
    }
    return lowest;
}

void vd_report_next(const struct vd_farm_image *image, struct vd_report_next *next)
{
    static const struct {
        const char *begin, *end, *why;
    } ways[] = {
        [VD_LEVEL_SAFE] = {"--repair --dry-run ",     "",        "shows the repair; without --dry-run it is made"},
        [VD_LEVEL_ALL] = {"--repair=all --dry-run ", "",
                           "shows what a repair would give up; take a copy before it is made"                    },
        [VD_LEVEL_NONE] = {"salvage ",                " OUTPUT", "copies what can be read into a new image"      },
        [VD_LEVEL_NONE + 1] = {"",                        "",        "checks it again"                               },
    };
    const struct vd_farm_result *r = &image->newest;
    int way = (int)level_of(r);
    char word[VD_TEXT_SHELL_MAX];

    *next = (struct vd_report_next){.why = "in use when it was to be checked; the next audit looks again"};
    if (vd_report_status(image) == VD_STATUS_BUSY)
        return;
    next->why = "nothing is to be done";
    if (!vd_report_needs_attention(image))
        return;
    if (way == VD_LEVEL_LEAKS)
        way = VD_LEVEL_SAFE;
    if (way == VD_LEVEL_NONE && vd_report_status(image) != VD_STATUS_DAMAGED)
        way++;
    next->is_repair = way < VD_LEVEL_NONE;
    next->why = ways[way].why;
    snprintf(next->command, sizeof(next->command), "vdcheck %s%s%s", ways[way].begin,
             vd_text_shell(word, sizeof(word), image->path), ways[way].end);
}

/* ---- the exit status */

static bool has_left(const struct vd_farm_result *result)
{
    static const enum vd_farm_number counts[] = {VD_FARM_CORRUPTIONS, VD_FARM_LEAKS, VD_FARM_STATES,
                                                 VD_FARM_ERRORS};

    for (size_t i = 0; i < VD_ARRAY_SIZE(counts); i++)
        if (result->numbers[counts[i]] > 0)
            return true;
    return false;
}

int vd_report_bits(const struct vd_farm *farm)
{
    int bits = 0;

    for (size_t i = 0; i < farm->images.n; i++) {
        const struct vd_farm_image *image = &farm->images.v[i];

        bits |= vd_status_kept_bits(vd_report_status(image), has_left(&image->newest));
        /* One that was asked for and could not be made is an error beside what is left. */
        bits |= image->newest.is_refused && is_of_last_run(image) ? VD_EXIT_ERROR : 0;
    }
    return bits;
}

int vd_report_nagios_state(const struct vd_farm *farm)
{
    struct vd_report_sums sums = vd_report_sum(farm);

    if (sums.by_status[VD_STATUS_DAMAGED])
        return 2;
    if (!sums.images || sums.by_status[VD_STATUS_ERROR] || sums.by_status[VD_STATUS_UNSUPPORTED] > sums.raw ||
        farm->is_torn)
        return 3;
    return sums.by_status[VD_STATUS_LEAKING] || sums.by_status[VD_STATUS_DIRTY] ? 1 : 0;
}

struct vd_report_sums vd_report_sum(const struct vd_farm *farm)
{
    struct vd_report_sums sums = {.images = farm->images.n};

    for (size_t i = 0; i < farm->images.n; i++) {
        const struct vd_farm_image *image = &farm->images.v[i];
        int64_t leaked = image->newest.numbers[VD_FARM_LEAKED_BYTES];

        sums.by_status[vd_report_status(image)]++;
        sums.raw += vd_report_is_raw(image);
        sums.fresh += image->is_new;
        sums.changed += image->is_changed;
        if (leaked > 0 && __builtin_add_overflow(sums.leaked_bytes, leaked, &sums.leaked_bytes))
            sums.leaked_bytes = INT64_MAX; /* a database can say anything */
    }
    return sums;
}

/* How much of a long text is a piece: no character is cut in two. */
static size_t piece_of(const char *text, size_t len)
{
    size_t n = PIECE;

    if (len <= PIECE)
        return len;
    while (n > PIECE - 4 && ((unsigned char)text[n] & 0xc0) == 0x80)
        n--;
    return n;
}

void vd_report_escape(FILE *f, const char *text, void (*say)(FILE *f, const char *piece))
{
    char shown[4 * PIECE + 5];

    for (size_t len = strlen(text), i = 0, n; i < len; i += n) {
        n = piece_of(text + i, len - i);
        say(f, vd_text_escape(shown, sizeof(shown), text + i, n));
    }
}

void vd_report_xml_part(FILE *f, const char *text, size_t len)
{
    static const struct {
        char c;
        const char *entity;
    } entities[] = {
        {'<',  "&lt;"  },
        {'>',  "&gt;"  },
        {'&',  "&amp;" },
        {'"',  "&quot;"},
        {'\'', "&#39;" }
    };

    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)text[i];
        size_t n = vd_text_utf8_len((const unsigned char *)text + i, len - i), e = 0;
        /* U+FFFE and U+FFFF are no characters of XML. */
        bool is_none =
            n == 3 && c == 0xef && (unsigned char)text[i + 1] == 0xbf && (unsigned char)text[i + 2] >= 0xbe;

        while (e < VD_ARRAY_SIZE(entities) && entities[e].c != (char)c)
            e++;
        if (e < VD_ARRAY_SIZE(entities))
            fputs(entities[e].entity, f);
        else if (!n || is_none || c < 0x20 || c == 0x7f)
            fprintf(f, "\\x%02x", c);
        else
            fwrite(text + i, 1, n, f);
        i += n && !is_none ? n : 1;
    }
}

void vd_report_xml(FILE *f, const char *text)
{
    vd_report_xml_part(f, text, strlen(text));
}

/* ---- at the end of an audit */

static bool was_seen(void *opaque, const struct vd_farm_image *image)
{
    return strcmp(image->last_run, opaque) == 0;
}

static void say_effort(const char *db, const struct vd_audit_sums *sums)
{
    char name[4 * 4096 + 1];

    printf("%" PRIu64 " checked, %" PRIu64 " unchanged", sums->checked, sums->unchanged);
    if (sums->repaired)
        printf(", %" PRIu64 " repaired", sums->repaired);
    printf("; %.1f s; kept in %s\n", sums->seconds, vd_text_escape(name, sizeof(name), db, strlen(db)));
}

int vd_report_after_audit(const struct vd_cli *cli, const char *db, const struct vd_audit_sums *sums)
{
    struct vd_farm farm = {0};
    struct vd_err err = VD_ERR_INIT;
    int status;

    if (vd_farm_add(&farm, db, &err) < 0 || vd_farm_settle(&farm, &err) < 0) {
        vd_farm_free(&farm);
        return vd_cli_fail(&err);
    }
    vd_farm_filter(&farm, was_seen, (void *)sums->run);
    status = vd_report_bits(&farm);
    if (!cli->quiet) {
        status |= vd_report_human(stdout, &farm, &err) < 0 ? vd_cli_fail(&err) : 0;
        say_effort(db, sums);
    }
    vd_farm_free(&farm);
    return status;
}
