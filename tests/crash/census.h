/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * References and counts of a qcow2 image in memory, counted without a line of the driver: what it writes is
 * judged by somebody else.
 */
#ifndef VD_CRASH_CENSUS_H
#define VD_CRASH_CENSUS_H

#include "tests/sweep/sweep.h"

/* Fails where a reference leads nowhere, a count is below the references, or a COPIED bit stands on what is
 * not alone. Returns how many clusters have a count above their references. */
uint64_t census_leaks(const struct sweep_image *image);

/* What a snapshot is to other programs: the L1 table copied, all it leads to counted once more, COPIED gone,
 * and a table with one entry. For counts of 16 bits; there must be counts for some clusters more. */
void census_take_snapshot(struct sweep_image *image);

/* The image with the snapshot's L1 table as the active one, for reading. */
struct sweep_image census_snapshot(const struct sweep_image *image);

#endif
