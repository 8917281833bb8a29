/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/base/inflate.h"

#include <limits.h>
#include <zlib.h>
#include <zstd.h>

enum { MOST_WINDOW_LOG = 23 };

int vd_inflate_raw(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len, int window_bits,
                   struct vd_inflated *result, struct vd_err *err)
{
    z_stream z = {.next_in = (z_const Bytef *)(uintptr_t)in,
                  .avail_in = (uInt)(in_len < UINT_MAX ? in_len : UINT_MAX),
                  .next_out = out,
                  .avail_out = (uInt)(out_len < UINT_MAX ? out_len : UINT_MAX)};
    int rc;

    *result = (struct vd_inflated){0};
    if (inflateInit2(&z, -window_bits) != Z_OK)
        return vd_fail_memory(err);
    rc = inflate(&z, Z_FINISH);
    *result = (struct vd_inflated){.used = z.total_in, .made = z.total_out};
    inflateEnd(&z);
    if (rc == Z_MEM_ERROR)
        return vd_fail_memory(err);
    if (result->made == out_len)
        return 0;
    return vd_fail(err, VD_ERR_FORMAT, 0, "the deflate stream %s after %zu of %zu bytes",
                   rc == Z_STREAM_END || rc == Z_BUF_ERROR ? "ends" : "is broken", result->made, out_len);
}

static int run_zstd(ZSTD_DCtx *ctx, ZSTD_inBuffer *input, ZSTD_outBuffer *output, struct vd_err *err)
{
    size_t rc;

    do {
        size_t in_before = input->pos, out_before = output->pos;

        rc = ZSTD_decompressStream(ctx, output, input);
        if (ZSTD_isError(rc))
            return vd_fail(err, VD_ERR_FORMAT, 0, "the zstd stream is broken after %zu of %zu bytes: %s",
                           output->pos, output->size, ZSTD_getErrorName(rc));
        if (input->pos == in_before && output->pos == out_before)
            return vd_fail(err, VD_ERR_FORMAT, 0, "the zstd stream ends after %zu of %zu bytes", output->pos,
                           output->size);
    } while (output->pos < output->size);
    return rc == 0
               ? 0
               : vd_fail(err, VD_ERR_FORMAT, 0, "the zstd stream goes on behind its %zu bytes", output->size);
}

int vd_inflate_zstd(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len,
                    struct vd_inflated *result, struct vd_err *err)
{
    ZSTD_DCtx *ctx = ZSTD_createDCtx();
    ZSTD_inBuffer input = {in, in_len, 0};
    ZSTD_outBuffer output = {out, out_len, 0};
    int rc;

    *result = (struct vd_inflated){0};
    if (!ctx)
        return vd_fail_memory(err);
    (void)ZSTD_DCtx_setParameter(ctx, ZSTD_d_windowLogMax, MOST_WINDOW_LOG);
    rc = run_zstd(ctx, &input, &output, err);
    *result = (struct vd_inflated){.used = input.pos, .made = output.pos};
    ZSTD_freeDCtx(ctx);
    return rc;
}
