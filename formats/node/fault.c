/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/node/fault.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "formats/base/span.h"
#include "formats/base/text.h"

VD_VEC(rule_vec, struct vd_fault_rule)

struct fault {
    struct rule_vec rules;
    bool is_cut;
    struct vd_fault_log *log;
};

static struct fault *fault_of(struct BlockDriverState *bs)
{
    return bs->opaque;
}

static int power_is_off(struct BlockDriverState *bs, struct vd_err *err)
{
    return vd_fail(err, VD_ERR_IO, EIO, "%s: injected power cut", bs->filename);
}

static bool rule_matches(const struct vd_fault_rule *rule, enum vd_fault_op op, int64_t offset, int64_t bytes)
{
    struct vd_span where = {(uint64_t)rule->offset, (uint64_t)rule->bytes};

    return rule->op == op &&
           (!rule->bytes || vd_spans_meet(where, (struct vd_span){(uint64_t)offset, (uint64_t)bytes}));
}

/* Which rule, if any, strikes this request? Counts the request. */
static struct vd_fault_rule *strike(struct BlockDriverState *bs, enum vd_fault_op op, int64_t offset,
                                    int64_t bytes)
{
    struct fault *f = fault_of(bs);

    for (size_t i = 0; i < f->rules.n; i++) {
        struct vd_fault_rule *rule = &f->rules.v[i];

        if (!rule_matches(rule, op, offset, bytes))
            continue;
        if (rule->skip) {
            rule->skip--;
            continue;
        }
        if (rule->times && --rule->times == 0)
            rule->skip = UINT64_MAX;
        return rule;
    }
    return NULL;
}

static int fail_by(struct BlockDriverState *bs, const struct vd_fault_rule *rule, const char *what,
                   int64_t offset, struct vd_err *err)
{
    if (!rule->errnum) {
        fault_of(bs)->is_cut = true;
        return power_is_off(bs, err);
    }
    return vd_fail(err, VD_ERR_IO, rule->errnum, "%s: injected fault: %s at %#llx", bs->filename, what,
                   (unsigned long long)offset);
}

static int record(struct BlockDriverState *bs, enum vd_fault_op op, int64_t offset, int64_t bytes,
                  const void *data, struct vd_err *err)
{
    struct vd_fault_event event = {.op = op, .offset = offset, .bytes = bytes};

    if (!fault_of(bs)->log)
        return 0;
    if (op == VD_FAULT_WRITE) {
        event.data = malloc((size_t)bytes);
        if (!event.data)
            return vd_fail_memory(err);
        memcpy(event.data, data, (size_t)bytes);
    }
    if (vd_fault_log_push(fault_of(bs)->log, event) < 0) {
        free(event.data);
        return vd_fail_memory(err);
    }
    return 0;
}

static int fault_preadv(struct BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf,
                        struct vd_err *err)
{
    const struct vd_fault_rule *rule = strike(bs, VD_FAULT_READ, offset, bytes);

    if (fault_of(bs)->is_cut)
        return power_is_off(bs, err);
    if (rule)
        return fail_by(bs, rule, "read", offset, err);
    return bdrv_pread(bs->file, offset, bytes, buf, err);
}

static int fault_pwritev(struct BlockDriverState *bs, int64_t offset, int64_t bytes, const void *buf,
                         enum vd_stage stage, struct vd_err *err)
{
    const struct vd_fault_rule *rule;

    if (fault_of(bs)->is_cut)
        return power_is_off(bs, err);
    rule = strike(bs, VD_FAULT_WRITE, offset, bytes);
    if (rule) {
        int64_t torn =
            (int64_t)vd_min((uint64_t)(rule->torn_bytes > 0 ? rule->torn_bytes : 0), (uint64_t)bytes);

        if (!rule->errnum && torn && bdrv_pwrite(bs->file, offset, torn, buf, stage, err) < 0)
            return -1;
        return fail_by(bs, rule, "write", offset, err);
    }
    if (record(bs, VD_FAULT_WRITE, offset, bytes, buf, err) < 0)
        return -1;
    return bdrv_pwrite(bs->file, offset, bytes, buf, stage, err);
}

static int fault_truncate(struct BlockDriverState *bs, int64_t size, struct vd_err *err)
{
    const struct vd_fault_rule *rule;

    if (fault_of(bs)->is_cut)
        return power_is_off(bs, err);
    rule = strike(bs, VD_FAULT_TRUNCATE, size, 1);
    if (rule)
        return fail_by(bs, rule, "truncate", size, err);
    if (record(bs, VD_FAULT_TRUNCATE, size, 0, NULL, err) < 0)
        return -1;
    return bdrv_truncate(bs->file, size, err);
}

static int fault_flush(struct BlockDriverState *bs, struct vd_err *err)
{
    const struct vd_fault_rule *rule;

    if (fault_of(bs)->is_cut)
        return power_is_off(bs, err);
    rule = strike(bs, VD_FAULT_FLUSH, 0, 1);
    if (rule)
        return fail_by(bs, rule, "flush", 0, err);
    if (record(bs, VD_FAULT_FLUSH, 0, 0, NULL, err) < 0)
        return -1;
    return bdrv_flush(bs->file, err);
}

static void fault_close(struct BlockDriverState *bs)
{
    rule_vec_done(&fault_of(bs)->rules);
}

static const struct BlockDriver fault_driver = {
    .format_name = "fault",
    .description = "fails and records on demand",
    .is_filter = true,
    .instance_size = sizeof(struct fault),
    .bdrv_close = fault_close,
    .bdrv_co_preadv = fault_preadv,
    .bdrv_co_pwritev = fault_pwritev,
    .bdrv_co_truncate = fault_truncate,
    .bdrv_co_flush = fault_flush,
};

struct BlockDriverState *vd_fault_new(struct BlockDriverState *below, struct vd_err *err)
{
    struct BlockDriverState *bs = bdrv_new(&fault_driver, below->filename, below, err);

    if (bs)
        bs->open_flags = below->open_flags;
    return bs;
}

int vd_fault_add(struct BlockDriverState *bs, const struct vd_fault_rule *rule, struct vd_err *err)
{
    return rule_vec_push(&fault_of(bs)->rules, *rule) < 0 ? vd_fail_memory(err) : 0;
}

static bool parse_errno(const char *word, int *errnum)
{
    static const struct {
        const char *name;
        int errnum;
    } names[] = {
        {"EIO",    EIO   },
        {"ENOSPC", ENOSPC},
        {"EINTR",  EINTR },
        {"EDQUOT", EDQUOT},
        {"EROFS",  EROFS }
    };

    for (size_t i = 0; i < VD_ARRAY_SIZE(names); i++)
        if (strcmp(word, names[i].name) == 0) {
            *errnum = names[i].errnum;
            return true;
        }
    return false;
}

static bool parse_key(const char *key, const char *value, struct vd_fault_rule *rule)
{
    int64_t v;

    if (strcmp(key, "errno") == 0)
        return parse_errno(value, &rule->errnum);
    if (!vd_text_parse_size(value, &v))
        return false;
    if (strcmp(key, "cut") == 0 && v > 0) {
        rule->errnum = 0;
        rule->skip = (uint64_t)v - 1;
    } else if (strcmp(key, "offset") == 0) {
        rule->offset = v;
    } else if (strcmp(key, "bytes") == 0) {
        rule->bytes = v;
    } else if (strcmp(key, "skip") == 0) {
        rule->skip = (uint64_t)v;
    } else if (strcmp(key, "times") == 0) {
        rule->times = (uint64_t)v;
    } else if (strcmp(key, "torn") == 0) {
        rule->torn_bytes = v;
    } else {
        return false;
    }
    return true;
}

static bool parse_op(const char *word, enum vd_fault_op *op)
{
    static const char *const names[] = {[VD_FAULT_READ] = "read",
                                        [VD_FAULT_WRITE] = "write",
                                        [VD_FAULT_FLUSH] = "flush",
                                        [VD_FAULT_TRUNCATE] = "truncate"};

    for (size_t i = 0; i < VD_ARRAY_SIZE(names); i++)
        if (strcmp(word, names[i]) == 0) {
            *op = (enum vd_fault_op)i;
            return true;
        }
    return false;
}

int vd_fault_parse(const char *text, struct vd_fault_rule *rule, struct vd_err *err)
{
    vd_auto_mem char *copy = strdup(text);
    char *save = NULL, *word, *colon;
    bool ok;

    if (!copy)
        return vd_fail_memory(err);
    *rule = (struct vd_fault_rule){.errnum = EIO, .torn_bytes = -1};
    colon = strchr(copy, ':');
    ok = colon != NULL;
    if (colon)
        *colon = '\0';
    ok = ok && parse_op(copy, &rule->op);
    for (word = ok ? strtok_r(colon + 1, ",", &save) : NULL; ok && word; word = strtok_r(NULL, ",", &save)) {
        char *equals = strchr(word, '=');

        ok = equals != NULL;
        if (equals) {
            *equals = '\0';
            ok = parse_key(word, equals + 1, rule);
        }
    }
    if (!ok)
        return vd_fail(err, VD_ERR_USAGE, 0, "'%s' is no fault rule: OP:KEY=VALUE,... expected", text);
    return 0;
}

bool vd_fault_is_cut(struct BlockDriverState *bs)
{
    return fault_of(bs)->is_cut;
}

void vd_fault_record(struct BlockDriverState *bs, struct vd_fault_log *log)
{
    fault_of(bs)->log = log;
}

void vd_fault_log_free(struct vd_fault_log *log)
{
    for (size_t i = 0; i < log->n; i++)
        free(log->v[i].data);
    vd_fault_log_done(log);
}
