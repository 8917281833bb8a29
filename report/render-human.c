/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --output=human: what an administrator reads at night. The verdict first, in one line; then what, where, how
 * bad, which guest bytes, and what to do next.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/base/text.h"
#include "report/render.h"

enum { PLACES_SHOWN = 3 };

struct paint {
    const char *on, *off;
};

static bool wants_colour(FILE *f)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

    return isatty(fileno(f)) && !(no && *no) && !(term && strcmp(term, "dumb") == 0);
}

static struct paint paint_of(FILE *f, enum vd_status status)
{
    static const char *const colours[] = {
        [VD_STATUS_CLEAN] = "\033[32m",   [VD_STATUS_REPAIRED] = "\033[32m",
        [VD_STATUS_LEAKING] = "\033[33m", [VD_STATUS_DIRTY] = "\033[33m",
        [VD_STATUS_DAMAGED] = "\033[31m", [VD_STATUS_UNSUPPORTED] = "\033[31m",
        [VD_STATUS_ERROR] = "\033[31m",   [VD_STATUS_BUSY] = "\033[33m"};

    return wants_colour(f) ? (struct paint){colours[status], "\033[0m"} : (struct paint){"", ""};
}

static void begin(FILE *f, void **state)
{
    (void)f;
    *state = NULL;
}

static void say_count(FILE *f, bool *first, uint64_t n, const char *one, const char *many)
{
    if (!n)
        return;
    fprintf(f, "%s%" PRIu64 " %s", *first ? "" : ", ", n, n == 1 ? one : many);
    *first = false;
}

static void say_counts(FILE *f, const struct vd_counts *counts)
{
    bool first = true;

    say_count(f, &first, counts->corruptions, "corruption", "corruptions");
    say_count(f, &first, counts->errors, "structure that could not be read",
              "structures that could not be read");
    say_count(f, &first, counts->leaks, "leaked cluster", "leaked clusters");
    say_count(f, &first, counts->states, "unclean state", "unclean states");
    say_count(f, &first, counts->warnings, "warning", "warnings");
    if (first)
        fputs("nothing wrong", f);
}

/* A repair that was refused has an image that was checked to the end. */
static bool ended_early(const struct vd_image_report *r)
{
    return r->err->kind && r->err->kind != VD_ERR_REFUSED;
}

/* What went wrong; a story that begins with the image's name does not say it twice. */
static void say_story(FILE *f, const struct vd_image_report *r)
{
    const char *told = r->err->story;
    size_t n = strlen(r->path);
    char story[800];

    if (strncmp(told, r->path, n) == 0 && strncmp(told + n, ": ", 2) == 0)
        told += n + 2;
    fprintf(f, "%s\n", vd_text_escape(story, sizeof(story), told, strlen(told)));
}

static void say_verdict(FILE *f, const struct vd_image_report *r, const char *path)
{
    static const char *const words[] = {
        [VD_STATUS_CLEAN] = "clean",     [VD_STATUS_REPAIRED] = "repaired",
        [VD_STATUS_LEAKING] = "leaking", [VD_STATUS_DIRTY] = "not closed cleanly",
        [VD_STATUS_DAMAGED] = "DAMAGED", [VD_STATUS_UNSUPPORTED] = "not supported",
        [VD_STATUS_ERROR] = "ERROR",     [VD_STATUS_BUSY] = "in use"};
    struct vd_counts left = vd_status_left(r->out, r->dry_run), all = left;
    const struct vd_ledger *ledger = r->out ? r->out->work.before.ledger : NULL;
    struct paint paint = paint_of(f, r->status);

    fprintf(f, "%s: %s%s%s: ", path, paint.on, words[r->status], paint.off);
    if (!ledger || ended_early(r)) {
        if (r->err->kind)
            say_story(f, r);
        else
            fputs("this format has no check\n", f);
        if (!ledger || !ledger->groups.n)
            return;
        fputs("  found until then: ", f);
    }
    all = vd_ledger_counts(ledger);
    if ((r->out->was_repaired && !r->dry_run) || r->recovered) {
        say_counts(f, &all);
        fputs(" found; left: ", f);
    }
    say_counts(f, &left);
    fputc('\n', f);
}

static void say_image(FILE *f, const struct vd_image_report *r)
{
    const struct vd_outcome *out = r->out;
    const struct vd_check_result *before = &out->work.before;
    char virt[VD_TEXT_SIZE_MAX], file[VD_TEXT_SIZE_MAX], cluster[VD_TEXT_SIZE_MAX];
    int64_t length = bdrv_getlength(out->bs->file, NULL);

    fprintf(f, "  %s", out->bs->drv->format_name);
    if (before->map)
        fprintf(f, ", disk of %s, file of %s, clusters of %s, %" PRIu64 " of %" PRIu64 " allocated",
                vd_text_size(virt, (uint64_t)out->bs->total_bytes), vd_text_size(file, (uint64_t)length),
                vd_text_size(cluster, before->cluster_size), before->clusters.allocated,
                before->clusters.total);
    else if (length >= 0)
        fprintf(f, ", file of %s; no walk was possible", vd_text_size(file, (uint64_t)length));
    fputc('\n', f);
}

static void say_guest(FILE *f, const char *word, uint64_t guest, uint64_t bytes)
{
    char at[VD_TEXT_SIZE_MAX], len[VD_TEXT_SIZE_MAX];

    fprintf(f, "        %s: ", word);
    if (bytes)
        fprintf(f, "%s at %s (0x%" PRIx64 " to 0x%" PRIx64 ")\n", vd_text_size(len, bytes),
                vd_text_size(at, guest), guest, guest + bytes - 1);
    else
        fprintf(f, "at %s (0x%" PRIx64 ")\n", vd_text_size(at, guest), guest);
}

static void say_place(FILE *f, const struct vd_place *place, enum vd_severity severity)
{
    char found[4 * VD_PLACE_TEXT], expected[4 * VD_PLACE_TEXT], tree[4 * VD_TREE_TEXT],
        size[VD_TEXT_SIZE_MAX];

    /* What concerns the whole file has no place to tell. */
    if (!place->depth && place->host == VD_NOWHERE && !place->found[0] && !place->expected[0])
        return;
    fputs("      ", f);
    if (place->tree[0])
        fprintf(f, "snapshot %s: ", vd_text_escape(tree, sizeof(tree), place->tree, strlen(place->tree)));
    for (unsigned i = 0; i < place->depth; i++)
        fprintf(f, "%s%s[%" PRIu64 "]", i ? "." : "", place->where[i].name, place->where[i].index);
    if (place->host != VD_NOWHERE)
        fprintf(f, "%sat 0x%" PRIx64, place->depth ? " " : "", place->host);
    if (place->host_bytes)
        fprintf(f, ", %s", vd_text_size(size, place->host_bytes));
    if (place->found[0])
        fprintf(f, "%sfound %s", place->host != VD_NOWHERE ? ": " : "",
                vd_text_escape(found, sizeof(found), place->found, strlen(place->found)));
    if (place->expected[0])
        fprintf(f, ", expected %s",
                vd_text_escape(expected, sizeof(expected), place->expected, strlen(place->expected)));
    fputc('\n', f);
    if (place->guest != VD_NOWHERE && severity != VD_LEAK)
        say_guest(f, "guest data", place->guest, place->guest_bytes);
    if (place->other_guest != VD_NOWHERE)
        say_guest(f, "shared with", place->other_guest, place->guest_bytes);
}

/* A row may say what is done below level all, and then what "at level all "; a group has one of the two. */
static void say_repair(FILE *f, const struct vd_group *group)
{
    static const char separator[] = "; ", words[] = "at level all ";
    const char *text = group->kind->repair, *all = strstr(text, words);

    if (all && group->level == VD_LEVEL_ALL)
        fputs(all + sizeof(words) - 1, f);
    else if (all && all != text && group->level < VD_LEVEL_ALL)
        fprintf(f, "%.*s", (int)((size_t)(all - text) - (sizeof(separator) - 1)), text);
    else
        fputs(text, f);
}

static void say_done(FILE *f, const char *words, const struct vd_group *group)
{
    fprintf(f, "      %s: %" PRIu64 " of %" PRIu64 " (", words, group->fixed, group->count);
    say_repair(f, group);
    fputs(")\n", f);
}

static void say_plan(FILE *f, const struct vd_group *group)
{
    if (group->level != VD_LEVEL_NONE)
        fprintf(f, "      repair (level %s): ", vd_level_name(group->level));
    else
        fprintf(f, "      repair: %s", strncmp(group->kind->repair, "none", 4) == 0 ? "" : "not here; ");
    say_repair(f, group);
    fputc('\n', f);
}

static void say_fate(FILE *f, const struct vd_image_report *r, const struct vd_group *group)
{
    bool all = group->fixed == group->count;

    if (r->level && group->fixed && (group->level > r->level || group->is_byproduct))
        fprintf(f, "      %s: %" PRIu64 " of %" PRIu64 ", as a result of the other repairs\n",
                r->dry_run ? "would be gone" : "gone", group->fixed, group->count);
    else if (r->level && group->fixed)
        say_done(f, r->dry_run ? "would be repaired" : "done", group);
    else
        say_plan(f, group);
    if (r->level && !all && group->reason)
        fprintf(f, "      left: %s\n", group->reason);
}

static void say_group(FILE *f, const struct vd_image_report *r, const struct vd_group *group)
{
    size_t shown = r->verbose ? group->places.n : vd_min(PLACES_SHOWN, group->places.n);
    char size[VD_TEXT_SIZE_MAX];

    fprintf(f, "\n  %s: %s", vd_severity_name(group->severity), group->kind->message);
    if (group->count > 1)
        fprintf(f, " (%" PRIu64 " times", group->count);
    if (group->severity == VD_LEAK && group->bytes)
        fprintf(f, "%s%s", group->count > 1 ? ", " : " (", vd_text_size(size, group->bytes));
    fprintf(f, "%s\n", group->count > 1 || (group->severity == VD_LEAK && group->bytes) ? ")" : "");
    fprintf(f, "      [%s]\n", group->kind->id);
    for (size_t i = 0; i < shown; i++)
        say_place(f, &group->places.v[i], group->severity);
    if (shown < group->places.n)
        fprintf(f, "      ... and more (--verbose lists them)\n");
    if (group->note)
        fprintf(f, "      %s\n", group->note);
    say_fate(f, r, group);
}

/* What is left to be repaired, for the line that says what to type. */
struct todo {
    enum vd_level level; /* the lowest at which something is repaired */
    bool lost;           /* guest data is wrong or could not be read */
    bool would_fix;      /* a dry run has shown that something can be */
};

/* A flag is cleared only after the corruption; and it is not, nor is anything freed, while it is not known
 * what is used. */
static bool has_to_wait(const struct vd_image_report *r, const struct vd_group *group,
                        const struct vd_counts *left)
{
    if (group->severity == VD_STATE && left->corruptions)
        return true;
    return (group->severity == VD_STATE || group->severity == VD_LEAK) &&
           r->out->work.before.map_is_incomplete;
}

static struct todo todo_of(const struct vd_image_report *r)
{
    const struct vd_ledger *ledger = r->out->work.before.ledger;
    struct vd_counts left = vd_status_left(r->out, r->dry_run);
    struct todo todo = {.level = VD_LEVEL_NONE};

    for (size_t i = 0; i < ledger->groups.n; i++) {
        const struct vd_group *group = ledger->groups.v[i];
        bool is_driver = strncmp(group->kind->id, "image.", 6) != 0;

        todo.would_fix |= r->dry_run && group->fixed;
        if (group->severity == VD_WARNING || (group->fixed == group->count && !r->dry_run))
            continue;
        todo.lost |= is_driver && (group->severity == VD_CORRUPTION || group->severity == VD_ERROR);
        if (group->level < todo.level && !has_to_wait(r, group, &left))
            todo.level = group->level;
    }
    return todo;
}

static void say_refusal(FILE *f, const struct vd_image_report *r)
{
    char story[1200];

    if (r->err->kind == VD_ERR_REFUSED)
        fprintf(f, "  no repair was made: %s\n",
                vd_text_escape(story, sizeof(story), r->err->story, strlen(r->err->story)));
}

/* An undo file beside the image is found by the image's name; one that lies elsewhere is named itself. path
 * is the image's name as a word of the shell. */
static void say_way_back(FILE *f, const struct vd_image_report *r, const char *path, const char *file)
{
    size_t len = strlen(r->path);
    char undo[4096], word[VD_TEXT_SHELL_MAX];

    vd_text_escape(undo, sizeof(undo), file, strlen(file));
    if (strncmp(file, r->path, len) == 0 && strncmp(file + len, ".vdcheck-undo", 13) == 0)
        fprintf(f, "  taken back with: vdcheck undo %s   (undo file: %s)\n", path, undo);
    else
        fprintf(f, "  taken back with: vdcheck undo %s\n", vd_text_shell(word, sizeof(word), file));
}

/* The image that a repair is asked of, as words of the shell: a chain is repaired as one, by its top. */
static const char *target_of(const struct vd_image_report *r, char *text, size_t room)
{
    char word[VD_TEXT_SHELL_MAX];

    snprintf(text, room, "%s%s%s", r->chain_options ? r->chain_options : "",
             r->format_option ? r->format_option : "",
             vd_text_shell(word, sizeof(word), r->named ? r->named : r->path));
    return text;
}

/* What is printed here is pasted into a shell. */
static void say_next(FILE *f, const struct vd_image_report *r)
{
    char word[VD_TEXT_SHELL_MAX], target[3 * VD_TEXT_SHELL_MAX];
    const char *path = vd_text_shell(word, sizeof(word), r->path);
    struct todo todo = todo_of(r);
    bool is_device = r->out->work.before.keeps_length;
    const char *level = r->level == VD_LEVEL_ALL ? "=all" : r->level == VD_LEVEL_LEAKS ? "=leaks" : "";

    fputc('\n', f);
    /* Of a chain only the image that was named can take the repair back, of all files. */
    if (r->out->was_repaired && !r->dry_run && r->out->undo_file && !r->out->is_backing)
        say_way_back(f, r, path, r->out->undo_file);
    else if (r->recovered)
        say_way_back(f, r, path, r->recovered->undo_file);
    if (r->dry_run && r->is_verified)
        fputs("  dry run: the repair was worked out and verified; nothing was written\n", f);
    say_refusal(f, r);
    if (r->status == VD_STATUS_CLEAN || r->status == VD_STATUS_REPAIRED || ended_early(r))
        return;
    /* Nothing lies beside a device. */
    if (todo.would_fix && r->is_verified)
        fprintf(f, "  next: vdcheck --repair%s%s %s   makes it\n", level,
                is_device ? " --undo-file=FILE" : "", target_of(r, target, sizeof(target)));
    else if (todo.level <= VD_LEVEL_SAFE && !r->level)
        fprintf(f, "  next: vdcheck --repair --dry-run %s   shows the repair%s\n",
                target_of(r, target, sizeof(target)),
                is_device ? "; with --undo-file=FILE and without --dry-run it makes it"
                          : ", without --dry-run makes it");
    else if (todo.level == VD_LEVEL_ALL && r->level != VD_LEVEL_ALL)
        fprintf(
            f,
            "  next: take a copy; then vdcheck --repair=all --dry-run %s shows what a repair would give up\n",
            target_of(r, target, sizeof(target)));
    if (todo.lost && !todo.would_fix && todo.level > VD_LEVEL_SAFE)
        fprintf(f, "  or:   vdcheck salvage %s%s OUTPUT copies what can be read into a new image\n",
                r->format_option && !r->out->is_backing ? r->format_option : "", path);
}

static void image(FILE *f, void *state, const struct vd_image_report *r)
{
    const struct vd_ledger *ledger = r->out ? r->out->work.before.ledger : NULL;
    char path[4096];

    (void)state;
    vd_text_escape(path, sizeof(path), r->path, strlen(r->path));
    if (r->out && r->out->was_skipped) {
        fprintf(f, "%s: closed cleanly, not checked\n", path);
        return;
    }
    say_verdict(f, r, path);
    if (!ledger)
        return;
    if (ledger->groups.n || r->verbose)
        say_image(f, r);
    for (size_t i = 0; i < ledger->groups.n; i++)
        say_group(f, r, ledger->groups.v[i]);
    if (ledger->groups.n)
        say_next(f, r);
}

static void end(FILE *f, void *state)
{
    (void)f;
    (void)state;
}

const struct vd_renderer vd_render_human = {begin, image, end};
