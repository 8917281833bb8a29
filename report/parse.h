/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Words of the command line that are numbers, parts and times. Each answers false where the words do not fit.
 */
#ifndef VD_PARSE_H
#define VD_PARSE_H

#include <stdbool.h>
#include <stdint.h>

/* A decimal number from least to most, and nothing else. */
bool vd_parse_number(const char *text, int64_t least, int64_t most, int64_t *n);

/* "3/8": the third of eight parts. */
bool vd_parse_shard(const char *text, unsigned *shard, unsigned *shards);

/*
 * The part of a job array's task that runs here: Slurm's SLURM_ARRAY_TASK_ID, _MIN, _STEP and _COUNT, or
 * Kubernetes' JOB_COMPLETION_INDEX with the number of all in VDCHECK_SHARDS. 1 with both set; 0 where this is
 * no such task; -1 where the variables make no sense.
 */
int vd_parse_array_task(unsigned *shard, unsigned *shards);

/* "30d" */
bool vd_parse_days(const char *text, unsigned *days);

/* "2026-11-27", "2026-11-27T18:30", "2026-11-27T18:30:05", all UTC, or "@SECONDS" since 1970. */
bool vd_parse_time(const char *text, int64_t *seconds);

#endif
