/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "report/parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "formats/base/auto.h"

enum { SHARDS_MAX = 1000000, DAYS_MAX = 100000 };

/* A number at *text, which moves behind it. */
static bool take_number(const char **text, int64_t least, int64_t most, int64_t *n)
{
    char *end;

    if (**text < '0' || **text > '9')
        return false;
    errno = 0;
    *n = strtoll(*text, &end, 10);
    *text = end;
    return !errno && *n >= least && *n <= most;
}

bool vd_parse_number(const char *text, int64_t least, int64_t most, int64_t *n)
{
    return take_number(&text, least, most, n) && !*text;
}

bool vd_parse_shard(const char *text, unsigned *shard, unsigned *shards)
{
    int64_t i, n;

    if (!take_number(&text, 1, SHARDS_MAX, &i) || *text++ != '/' || !take_number(&text, i, SHARDS_MAX, &n) ||
        *text)
        return false;
    *shard = (unsigned)i;
    *shards = (unsigned)n;
    return true;
}

static bool take_variable(const char *name, int64_t least, int64_t *n)
{
    const char *text = getenv(name);

    return text && vd_parse_number(text, least, SHARDS_MAX, n);
}

/* The i-th of n, both from outside. */
static int set_part(int64_t i, int64_t n, unsigned *shard, unsigned *shards)
{
    if (i < 1 || i > n)
        return -1;
    *shard = (unsigned)i;
    *shards = (unsigned)n;
    return 1;
}

int vd_parse_array_task(unsigned *shard, unsigned *shards)
{
    int64_t id, min, n, step = 1;

    if (getenv("SLURM_ARRAY_TASK_ID")) {
        (void)take_variable("SLURM_ARRAY_TASK_STEP", 1, &step);
        if (!take_variable("SLURM_ARRAY_TASK_ID", 0, &id) ||
            !take_variable("SLURM_ARRAY_TASK_MIN", 0, &min) ||
            !take_variable("SLURM_ARRAY_TASK_COUNT", 1, &n) || (id - min) % step)
            return -1;
        return set_part((id - min) / step + 1, n, shard, shards);
    }
    if (getenv("JOB_COMPLETION_INDEX")) {
        if (!take_variable("JOB_COMPLETION_INDEX", 0, &id) || !take_variable("VDCHECK_SHARDS", 1, &n))
            return -1;
        return set_part(id + 1, n, shard, shards);
    }
    return 0;
}

bool vd_parse_days(const char *text, unsigned *days)
{
    int64_t n;

    if (!take_number(&text, 1, DAYS_MAX, &n) || strcmp(text, "d") != 0)
        return false;
    *days = (unsigned)n;
    return true;
}

bool vd_parse_time(const char *text, int64_t *seconds)
{
    static const char *const forms[] = {"%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"};

    if (text[0] == '@')
        return vd_parse_number(text + 1, 0, INT64_MAX, seconds);
    for (size_t i = 0; i < VD_ARRAY_SIZE(forms); i++) {
        struct tm tm = {0};
        const char *end = strptime(text, forms[i], &tm);

        if (!end || *end)
            continue;
        *seconds = timegm(&tm);
        return true;
    }
    return false;
}
