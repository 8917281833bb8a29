/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How it developed: a small chart for each of a few numbers over the runs that came to their end, and the
 * same as a table.
 *
 * The runs of shards, or of several hosts, belong together: a round ends where one of them runs again. What
 * did not run in a round counts as it was in the one before.
 */
#include <inttypes.h>
#include <string.h>

#include "report/html.h"

enum { ROUNDS_SHOWN = 90, WIDTH = 260, HEIGHT = 56, EDGE = 4 };

enum number { FOUND, DAMAGED, DIRTY, LEAKING, LEAKED, SECONDS, NUMBERS };

struct round {
    int64_t at; /* when its last run began */
    double numbers[NUMBERS];
};

VD_VEC(round_vec, struct round)
VD_VEC(run_vec, const struct vd_farm_run *)

static bool covers_the_same(const struct vd_farm_run *a, const struct vd_farm_run *b)
{
    return a->shard == b->shard && a->shards == b->shards && strcmp(a->host, b->host) == 0 &&
           strcmp(a->farm, b->farm) == 0;
}

static bool is_in_round(const struct run_vec *newest, size_t in_round, const struct vd_farm_run *run)
{
    for (size_t i = 0; i < in_round; i++)
        if (covers_the_same(newest->v[i], run))
            return true;
    return false;
}

/* Takes the place of the run before it. Those of the round stand first. */
static int enter(struct run_vec *newest, size_t *in_round, const struct vd_farm_run *run)
{
    size_t i = *in_round;

    while (i < newest->n && !covers_the_same(newest->v[i], run))
        i++;
    if (i == newest->n && run_vec_push(newest, run) < 0)
        return -1;
    newest->v[i] = newest->v[*in_round];
    newest->v[(*in_round)++] = run;
    return 0;
}

/* Whatever a database says, a sum of such numbers is one that can be printed. */
static double known(double number)
{
    return number > 0 ? number < 1e15 ? number : 1e15 : 0;
}

/* All that is known after a round. Shards run beside each other: the longest says how long it took. */
static struct round sum(const struct run_vec *newest, size_t in_round)
{
    /* In the order of the columns: clean, repaired, leaking, dirty, damaged. */
    enum { AT_LEAKING = 2, AT_DIRTY, AT_DAMAGED };
    struct round round = {0};

    for (size_t i = 0; i < newest->n; i++) {
        const struct vd_farm_run *run = newest->v[i];

        round.numbers[FOUND] += known((double)run->found);
        round.numbers[DAMAGED] += known((double)run->by_status[AT_DAMAGED]);
        round.numbers[DIRTY] += known((double)run->by_status[AT_DIRTY]);
        round.numbers[LEAKING] += known((double)run->by_status[AT_LEAKING]);
        round.numbers[LEAKED] += known((double)run->leaked_bytes);
        if (i >= in_round)
            continue;
        if (known(run->seconds) > round.numbers[SECONDS])
            round.numbers[SECONDS] = known(run->seconds);
        if (run->started_at > round.at)
            round.at = run->started_at;
    }
    return round;
}

static int gather(const struct vd_farm *farm, struct round_vec *rounds, uint64_t *runs_n)
{
    struct run_vec newest = {0};
    size_t in_round = 0;
    int rc = 0;

    for (size_t i = 0; i < farm->runs.n && rc == 0; i++) {
        const struct vd_farm_run *run = &farm->runs.v[i];

        if (strcmp(run->state, "complete") != 0)
            continue;
        ++*runs_n;
        if (is_in_round(&newest, in_round, run)) {
            rc = round_vec_push(rounds, sum(&newest, in_round));
            in_round = 0;
        }
        rc |= enter(&newest, &in_round, run);
    }
    if (in_round)
        rc |= round_vec_push(rounds, sum(&newest, in_round));
    run_vec_done(&newest);
    return rc;
}

/* ---- a number and its chart */

static const struct {
    enum number number;
    const char *label, *class;
} charts[] = {
    {DAMAGED, "Damaged",    "damaged"},
    {DIRTY,   "Dirty",      "dirty"  },
    {LEAKED,  "Leaked",     "leaking"},
    {SECONDS, "Audit time", "time"   },
};

static void say_value(FILE *f, enum number number, double value)
{
    char size[VD_TEXT_SIZE_MAX];

    if (number == LEAKED)
        fputs(value > 0 ? vd_text_size(size, (uint64_t)value) : "0", f);
    else if (number == SECONDS)
        vd_html_seconds(f, value);
    else
        vd_html_number(f, (uint64_t)value);
}

static double highest(const struct round *rounds, size_t n, enum number number)
{
    double most = 0;

    for (size_t i = 0; i < n; i++)
        if (rounds[i].numbers[number] > most)
            most = rounds[i].numbers[number];
    return most;
}

/* Where a round stands: by its time, from edge to edge. */
static double x_of(const struct round *rounds, size_t n, size_t i)
{
    double all = (double)(rounds[n - 1].at - rounds[0].at);
    double part = all > 0 ? (double)(rounds[i].at - rounds[0].at) / all : 1;

    return EDGE + part * (WIDTH - 2 * EDGE);
}

static double y_of(double value, double most)
{
    return HEIGHT - EDGE - (most > 0 ? value / most : 0) * (HEIGHT - 2 * EDGE);
}

static void draw(FILE *f, const struct round *rounds, size_t n, enum number number, double most)
{
    double last = y_of(rounds[n - 1].numbers[number], most);

    fprintf(f, "<path class=\"base\" d=\"M0 %d.5H%d\"/><path class=\"line\" d=\"", HEIGHT - EDGE, WIDTH);
    for (size_t i = 0; i < n; i++)
        fprintf(f, "%c%.1f %.1f", i ? 'L' : 'M', x_of(rounds, n, i), y_of(rounds[i].numbers[number], most));
    fprintf(f, "\"/><circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>", x_of(rounds, n, n - 1), last);
}

static void say_chart(FILE *f, const struct round *rounds, size_t n, size_t chart)
{
    enum number number = charts[chart].number;
    double most = highest(rounds, n, number);
    char from[VD_HTML_TIME_MAX], to[VD_HTML_TIME_MAX];

    fprintf(f, "<figure class=\"chart %s\"><figcaption>%s <b>", charts[chart].class, charts[chart].label);
    say_value(f, number, rounds[n - 1].numbers[number]);
    fputs("</b> <span class=\"quiet\">peak ", f);
    say_value(f, number, most);
    fprintf(f,
            "</span></figcaption><svg role=\"img\" aria-labelledby=\"c%zu\" width=\"%d\" height=\"%d\" "
            "viewBox=\"0 0 %d %d\"><title id=\"c%zu\">%s from ",
            chart, WIDTH, HEIGHT, WIDTH, HEIGHT, chart, charts[chart].label);
    say_value(f, number, rounds[0].numbers[number]);
    fprintf(f, " on %s to ", vd_html_time(from, rounds[0].at));
    say_value(f, number, rounds[n - 1].numbers[number]);
    fprintf(f, " on %s; the table has the numbers</title>", vd_html_time(to, rounds[n - 1].at));
    draw(f, rounds, n, number, most);
    fputs("</svg></figure>\n", f);
}

/* ---- the table */

static void say_table(FILE *f, const struct round *rounds, size_t n)
{
    static const char *const heads[NUMBERS] = {"Images",  "Damaged",      "Dirty",
                                               "Leaking", "Leaked bytes", "Audit time"};
    char stamp[VD_HTML_TIME_MAX];

    fputs("<details><summary>Run by run</summary>\n<div class=\"wide\"><table class=\"plain\">"
          "<thead><tr><th scope=\"col\">Run (UTC)</th>",
          f);
    for (size_t k = 0; k < NUMBERS; k++)
        fprintf(f, "<th scope=\"col\" class=\"n\">%s</th>", heads[k]);
    fputs("</tr></thead>\n<tbody>\n", f);
    for (size_t i = n; i-- > 0;) {
        fprintf(f, "<tr><th scope=\"row\">%s</th>", vd_html_time(stamp, rounds[i].at));
        for (size_t k = 0; k < NUMBERS; k++) {
            fputs("<td class=\"n\">", f);
            say_value(f, (enum number)k, rounds[i].numbers[k]);
            fputs("</td>", f);
        }
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div></details>\n", f);
}

static void say_rounds(FILE *f, const struct round_vec *rounds, size_t shown, uint64_t runs_n)
{
    fputs("<p class=\"quiet\">", f);
    vd_html_count(f, runs_n, "run that came to its end", "runs that came to their end");
    if (runs_n != rounds->n) {
        fputs(", in ", f);
        vd_html_count(f, rounds->n, "round", "rounds");
    }
    if (shown < rounds->n)
        fprintf(f, ", of which the last %zu are shown", shown);
    fprintf(f, "; over all images in the databases.%s</p>\n",
            shown < 2 ? " There is nothing yet to compare them with." : "");
}

int vd_html_trends(FILE *f, const struct vd_html *page, struct vd_err *err)
{
    struct round_vec rounds = {0};
    uint64_t runs_n = 0;
    const struct round *shown;
    size_t n;

    fputs("<section id=\"trends\">\n<h2>Over the runs</h2>\n", f);
    if (gather(page->farm, &rounds, &runs_n) < 0) {
        round_vec_done(&rounds);
        return vd_fail_memory(err);
    }
    if (!rounds.n) {
        fputs("<p>No run came to its end.</p>\n</section>\n", f);
        return 0;
    }
    n = rounds.n < ROUNDS_SHOWN ? rounds.n : ROUNDS_SHOWN;
    shown = rounds.v + rounds.n - n;
    say_rounds(f, &rounds, n, runs_n);
    if (n > 1) {
        fputs("<div class=\"charts\">\n", f);
        for (size_t i = 0; i < VD_ARRAY_SIZE(charts); i++)
            say_chart(f, shown, n, i);
        fputs("</div>\n", f);
    }
    say_table(f, shown, n);
    fputs("</section>\n", f);
    round_vec_done(&rounds);
    return 0;
}
