/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The formats that vdcheck knows, from drivers.def, and all that can be wrong with their images.
 */
#ifndef VD_REGISTRY_H
#define VD_REGISTRY_H

#include <stddef.h>
#include <stdint.h>

struct BlockDriver;
struct vd_finding_kind;

/* The i-th driver in the order of probing, from 0; NULL behind the last. */
const struct BlockDriver *vd_driver_at(size_t i);

/* The driver of a name (ours or QEMU's), or NULL. */
const struct BlockDriver *vd_driver_by_name(const char *name);

/* The driver that is surest of these first bytes of a file of that length; NULL where none knows them. *score
 * is how sure it is, 1 to 100. Raw is never an answer: everything would be. */
const struct BlockDriver *vd_driver_probe(const uint8_t *buf, size_t len, int64_t file_size, int *score);

/* Walks all rows of all drivers and the image rows; i from 0. NULL behind the last. */
const struct vd_finding_kind *vd_finding_row(size_t i);

/* The row of an id, or NULL. */
const struct vd_finding_kind *vd_finding_by_id(const char *id);

#endif
