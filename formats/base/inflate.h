/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bounded decompression: never more output than asked for, never a loop without progress, whatever the input
 * says.
 */
#ifndef VD_BASE_INFLATE_H
#define VD_BASE_INFLATE_H

#include <stddef.h>
#include <stdint.h>

#include "formats/base/err.h"

/* The largest window of deflate, and the one that QEMU's qcow2 driver allows. */
enum { VD_DEFLATE_WINDOW = 15, VD_DEFLATE_WINDOW_QEMU = 12 };

/* What came of a stream. */
struct vd_inflated {
    size_t used; /* bytes of input that were needed */
    size_t made; /* bytes of output; what is behind them in the buffer is undefined */
};

/*
 * Inflates a raw deflate stream (no wrapper) until out_len bytes have come out or the stream ends. 0 where
 * all of out_len came; -1 (VD_ERR_FORMAT) where the stream is broken or too short: *result says how far it
 * went.
 */
int vd_inflate_raw(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len, int window_bits,
                   struct vd_inflated *result, struct vd_err *err);

/* The same for one or more zstd frames, with a window of at most 8 MiB; the last has to end where the output
 * does. */
int vd_inflate_zstd(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len,
                    struct vd_inflated *result, struct vd_err *err);

#endif
