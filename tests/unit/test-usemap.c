/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "checker/usemap.h"

#include "tests/unit/unit.h"

/* The map is kept in pages of so many clusters; their borders are where it may err. */
enum { PAGE = 65536, BITS = 16 };

#define AT(cluster) ((uint64_t)(cluster) << BITS)

static struct vd_budget budget = VD_BUDGET_INIT;

static struct vd_usemap *make(uint64_t clusters)
{
    struct vd_err err = VD_ERR_INIT;
    struct vd_usemap *map = vd_usemap_new(VD_MAP_BITS, BITS, clusters, &budget, &err);

    must_have(map, &err);
    return map;
}

static uint64_t claim(struct vd_usemap *map, enum vd_kind kind, uint64_t first, uint64_t count)
{
    struct vd_err err = VD_ERR_INIT;
    uint64_t shared = 99;

    must(vd_usemap_claim(map, &(struct vd_claim){kind, first + 1000, 1}, first, count, &shared, &err), &err);
    return shared;
}

static struct vd_claim_result claim_batch(struct vd_usemap *map, const uint64_t *offsets, size_t n)
{
    struct vd_err err = VD_ERR_INIT;
    struct vd_claim_result result = {0};
    struct vd_claim_batch batch = {
        .offsets = offsets, .n = n, .zero = 1, .lo = AT(1), .hi = AT(vd_usemap_clusters(map))};

    must(vd_usemap_claim_batch(map, &batch, &result, &err), &err);
    return result;
}

static uint64_t count_used(const struct vd_usemap *map)
{
    uint64_t n = 0;

    for (uint64_t c = 0; c < vd_usemap_clusters(map); c++)
        n += vd_usemap_is_used(map, c);
    return n;
}

/* ---- single claims */

START_TEST(a_new_map_is_free)
{
    vd_auto(vd_usemap) map = make(2 * PAGE + 10);

    ck_assert_uint_eq(vd_usemap_cluster_bits(map), BITS);
    ck_assert_uint_eq(vd_usemap_clusters(map), 2 * PAGE + 10);
    ck_assert_uint_eq(vd_usemap_end(map), 0);
    ck_assert_uint_eq(count_used(map), 0);
    ck_assert(!vd_usemap_is_used(map, UINT64_MAX) && !vd_usemap_is_shared(map, 2 * PAGE + 10));
}
END_TEST

START_TEST(claims_are_counted_as_shared_the_second_time)
{
    vd_auto(vd_usemap) map = make(100);

    ck_assert_uint_eq(claim(map, VD_KIND_DATA, 10, 5), 0);
    ck_assert_uint_eq(claim(map, VD_KIND_DATA, 12, 5), 3);
    ck_assert_uint_eq(claim(map, VD_KIND_DATA, 12, 1), 1);
    ck_assert(vd_usemap_is_used(map, 10) && !vd_usemap_is_shared(map, 10));
    ck_assert(vd_usemap_is_shared(map, 12) && vd_usemap_is_shared(map, 14));
    ck_assert(vd_usemap_is_used(map, 16) && !vd_usemap_is_shared(map, 16));
    ck_assert(!vd_usemap_is_used(map, 17) && !vd_usemap_is_used(map, 9));
    ck_assert_uint_eq(vd_usemap_end(map), 17);
}
END_TEST

START_TEST(claims_reach_over_page_borders)
{
    vd_auto(vd_usemap) map = make(3 * PAGE);

    ck_assert_uint_eq(claim(map, VD_KIND_DATA, PAGE - 2, PAGE + 4), 0);
    ck_assert(!vd_usemap_is_used(map, PAGE - 3) && vd_usemap_is_used(map, PAGE - 2));
    ck_assert(vd_usemap_is_used(map, PAGE) && vd_usemap_is_used(map, 2 * PAGE + 1));
    ck_assert(!vd_usemap_is_used(map, 2 * PAGE + 2));
    ck_assert_uint_eq(claim(map, VD_KIND_DATA, PAGE - 1, 2), 2);
    ck_assert(vd_usemap_is_shared(map, PAGE - 1) && vd_usemap_is_shared(map, PAGE));
    ck_assert(!vd_usemap_is_shared(map, PAGE - 2) && !vd_usemap_is_shared(map, PAGE + 1));
    ck_assert_uint_eq(count_used(map), PAGE + 4);
}
END_TEST

START_TEST(the_last_cluster_can_be_claimed)
{
    vd_auto(vd_usemap) map = make(PAGE + 1);

    ck_assert_uint_eq(claim(map, VD_KIND_DATA, PAGE, 1), 0);
    ck_assert_uint_eq(claim(map, VD_KIND_DATA, PAGE + 1, 0), 0);
    ck_assert(vd_usemap_is_used(map, PAGE));
    ck_assert_uint_eq(vd_usemap_end(map), PAGE + 1);
}
END_TEST

/* ---- kinds */

START_TEST(metadata_is_known_by_its_kind_and_reference)
{
    vd_auto(vd_usemap) map = make(1000);
    const struct vd_meta_run *meta;

    claim(map, VD_KIND_L2, 50, 4);
    claim(map, VD_KIND_HEADER, 0, 1);
    claim(map, VD_KIND_DATA, 60, 2);
    claim(map, VD_KIND_L1, 1, 4);
    ck_assert_int_eq(vd_usemap_kind(map, 0, &meta), VD_KIND_HEADER);
    ck_assert_int_eq(vd_usemap_kind(map, 4, &meta), VD_KIND_L1);
    ck_assert_int_eq(vd_usemap_kind(map, 53, &meta), VD_KIND_L2);
    ck_assert_uint_eq(meta->first, 50);
    ck_assert_uint_eq(meta->count, 4);
    ck_assert_uint_eq(meta->reference, 1050);
    ck_assert_int_eq(vd_usemap_kind(map, 54, &meta), VD_KIND_FREE);
    ck_assert_ptr_null(meta);
    ck_assert_int_eq(vd_usemap_kind(map, 61, &meta), VD_KIND_DATA);
    ck_assert_ptr_null(meta);
    ck_assert_int_eq(vd_usemap_kind(map, 5000, NULL), VD_KIND_FREE);
}
END_TEST

START_TEST(metadata_keeps_its_kind_when_data_claims_it_too)
{
    vd_auto(vd_usemap) map = make(100);

    claim(map, VD_KIND_DATA, 10, 1);
    ck_assert_uint_eq(claim(map, VD_KIND_L2, 8, 4), 1);
    ck_assert_int_eq(vd_usemap_kind(map, 10, NULL), VD_KIND_L2);
    ck_assert(vd_usemap_is_shared(map, 10));
}
END_TEST

START_TEST(of_metadata_that_overlaps_the_first_is_told)
{
    vd_auto(vd_usemap) map = make(100);
    const struct vd_meta_run *meta;

    claim(map, VD_KIND_L2, 12, 4);
    claim(map, VD_KIND_L1, 10, 4);
    ck_assert_int_eq(vd_usemap_kind(map, 11, &meta), VD_KIND_L1);
    ck_assert_int_eq(vd_usemap_kind(map, 13, &meta), VD_KIND_L1);
    ck_assert_uint_eq(meta->first, 10);
    ck_assert_int_eq(vd_usemap_kind(map, 14, &meta), VD_KIND_L2);
}
END_TEST

START_TEST(metadata_is_listed_in_order_and_again_after_more_of_it)
{
    vd_auto(vd_usemap) map = make(1000);
    const struct vd_meta_run *v;
    size_t n;

    claim(map, VD_KIND_L2, 500, 1);
    claim(map, VD_KIND_L1, 100, 1);
    v = vd_usemap_meta(map, &n);
    ck_assert_uint_eq(n, 2);
    ck_assert_uint_eq(v[0].first, 100);
    claim(map, VD_KIND_HEADER, 0, 1);
    v = vd_usemap_meta(map, &n);
    ck_assert_uint_eq(n, 3);
    ck_assert_uint_eq(v[0].first, 0);
    ck_assert_int_eq(vd_usemap_kind(map, 500, NULL), VD_KIND_L2);
}
END_TEST

/* ---- batches */

START_TEST(a_table_in_order_is_one_stretch)
{
    vd_auto(vd_usemap) map = make(4 * PAGE);
    uint64_t offsets[1000];
    struct vd_claim_result r;

    for (uint64_t i = 0; i < 1000; i++)
        offsets[i] = AT(PAGE - 500 + i);
    r = claim_batch(map, offsets, 1000);
    ck_assert_uint_eq(r.allocated, 1000);
    ck_assert_uint_eq(r.bad + r.shared + r.zeroes + r.fragmented, 0);
    ck_assert_uint_eq(count_used(map), 1000);
    ck_assert(vd_usemap_is_used(map, PAGE - 500) && vd_usemap_is_used(map, PAGE + 499));
    ck_assert_uint_eq(vd_usemap_end(map), PAGE + 500);
}
END_TEST

/* However a table comes in pieces, it is as fragmented as in one. */
START_TEST(the_pieces_of_a_table_go_on_where_the_one_before_ended)
{
    static const uint64_t offsets[] = {AT(5), AT(6), AT(7), 0, AT(8), AT(20), AT(21), AT(9)};
    enum { N = sizeof(offsets) / sizeof(offsets[0]) };

    for (size_t cut = 0; cut <= N; cut++) {
        vd_auto(vd_usemap) map = make(100);
        struct vd_claim_batch first = {.offsets = offsets, .n = cut, .zero = 1, .lo = AT(1), .hi = AT(100)};
        struct vd_claim_batch rest = first;
        struct vd_claim_result r = {0};
        struct vd_err err = VD_ERR_INIT;

        rest.offsets += cut;
        rest.n = N - cut;
        must(vd_usemap_claim_batch(map, &first, &r, &err), &err);
        must(vd_usemap_claim_batch(map, &rest, &r, &err), &err);
        ck_assert_uint_eq(r.fragmented, 2);
        ck_assert_uint_eq(r.allocated, 7);
        ck_assert_uint_eq(r.shared, 0);
        ck_assert_uint_eq(count_used(map), 7);
        ck_assert_uint_eq(r.next, AT(10));
    }
}
END_TEST

START_TEST(entries_that_are_not_good_are_told_and_not_claimed)
{
    static const uint64_t offsets[] = {0,       1,      AT(5),      AT(6),     AT(6) + 512, AT(0), 2,
                                       AT(100), AT(99), UINT64_MAX, AT(1) - 1, AT(1),       0};
    vd_auto(vd_usemap) map = make(100);
    struct vd_claim_result r = claim_batch(map, offsets, sizeof(offsets) / sizeof(offsets[0]));

    ck_assert_uint_eq(r.allocated, 4);
    ck_assert_uint_eq(r.zeroes, 1);
    /* Unaligned twice, below lo (2 and the one before 1), at hi, and the largest number. */
    ck_assert_uint_eq(r.bad, 5);
    ck_assert_uint_eq(r.shared, 0);
    ck_assert_uint_eq(count_used(map), 4);
    ck_assert(vd_usemap_is_used(map, 5) && vd_usemap_is_used(map, 6));
    ck_assert(vd_usemap_is_used(map, 99) && vd_usemap_is_used(map, 1));
    ck_assert_uint_eq(vd_usemap_end(map), 100);
}
END_TEST

START_TEST(a_stretch_ends_at_the_highest_good_offset)
{
    static const uint64_t offsets[] = {AT(98), AT(99), AT(100), AT(101)};
    vd_auto(vd_usemap) map = make(200);
    struct vd_err err = VD_ERR_INIT;
    struct vd_claim_result r = {0};
    struct vd_claim_batch batch = {.offsets = offsets, .n = 4, .zero = 1, .lo = AT(1), .hi = AT(100)};

    must(vd_usemap_claim_batch(map, &batch, &r, &err), &err);
    ck_assert_uint_eq(r.allocated, 2);
    ck_assert_uint_eq(r.bad, 2);
    ck_assert(vd_usemap_is_used(map, 99) && !vd_usemap_is_used(map, 100));
    ck_assert_uint_eq(vd_usemap_end(map), 100);
}
END_TEST

START_TEST(entries_named_twice_are_shared)
{
    static const uint64_t offsets[] = {AT(5), AT(6), AT(7), AT(6), AT(5), AT(5), AT(20)};
    vd_auto(vd_usemap) map = make(100);
    struct vd_claim_result r = claim_batch(map, offsets, sizeof(offsets) / sizeof(offsets[0]));

    ck_assert_uint_eq(r.allocated, 7);
    ck_assert_uint_eq(r.shared, 3);
    ck_assert(vd_usemap_is_shared(map, 5) && vd_usemap_is_shared(map, 6));
    ck_assert(!vd_usemap_is_shared(map, 7) && !vd_usemap_is_shared(map, 20));
    r = claim_batch(map, offsets, 3); /* again, from another table */
    ck_assert_uint_eq(r.shared, 3);
    ck_assert(vd_usemap_is_shared(map, 7));
}
END_TEST

START_TEST(data_that_names_metadata_is_shared)
{
    static const uint64_t offsets[] = {AT(2), AT(3), AT(4)};
    vd_auto(vd_usemap) map = make(100);
    struct vd_claim_result r;

    claim(map, VD_KIND_L1, 3, 1);
    r = claim_batch(map, offsets, 3);
    ck_assert_uint_eq(r.shared, 1);
    ck_assert(vd_usemap_is_shared(map, 3));
    ck_assert_int_eq(vd_usemap_kind(map, 3, NULL), VD_KIND_L1);
}
END_TEST

START_TEST(breaks_of_the_order_are_fragments)
{
    static const uint64_t ascending[] = {AT(5), AT(6), 0, AT(7), 1, AT(8)};
    static const uint64_t broken[] = {AT(15), AT(17), AT(16), AT(18)};
    vd_auto(vd_usemap) map = make(100);

    ck_assert_uint_eq(claim_batch(map, ascending, 6).fragmented, 0);
    ck_assert_uint_eq(claim_batch(map, broken, 4).fragmented, 3);
}
END_TEST

START_TEST(an_empty_table_claims_nothing)
{
    static const uint64_t offsets[4] = {0};
    vd_auto(vd_usemap) map = make(100);
    struct vd_claim_result r = claim_batch(map, offsets, 4);

    ck_assert_uint_eq(r.allocated + r.bad + r.shared + r.zeroes + r.fragmented, 0);
    r = claim_batch(map, offsets, 0);
    ck_assert_uint_eq(r.allocated, 0);
    ck_assert_uint_eq(vd_usemap_end(map), 0);
}
END_TEST

START_TEST(only_the_zero_value_itself_counts_as_zero_cluster)
{
    static const uint64_t offsets[] = {0, 1, 2, 3, AT(5)};
    vd_auto(vd_usemap) map = make(100);
    struct vd_err err = VD_ERR_INIT;
    struct vd_claim_result r = {0};
    struct vd_claim_batch batch = {.offsets = offsets, .n = 5, .zero = 2, .lo = AT(1), .hi = AT(100)};

    must(vd_usemap_claim_batch(map, &batch, &r, &err), &err);
    ck_assert_uint_eq(r.zeroes, 1);
    ck_assert_uint_eq(r.bad, 1);
    ck_assert_uint_eq(r.allocated, 1);
    batch.zero = 0; /* a format without zero clusters */
    r = (struct vd_claim_result){0};
    must(vd_usemap_claim_batch(map, &batch, &r, &err), &err);
    ck_assert_uint_eq(r.zeroes, 0);
    ck_assert_uint_eq(r.bad, 3);
}
END_TEST

/* Random tables against plain counters, with a small map (a page at a time) and a large one (one slab). */
static void compare_with_counters(uint64_t clusters, uint64_t seed)
{
    enum { ROUNDS = 40, N = 256 };
    uint8_t *refs = calloc(clusters, 1);
    vd_auto(vd_usemap) map = make(clusters);
    uint64_t offsets[N], noise[N], wrong = 0;

    for (uint64_t round = 0; round < ROUNDS; round++) {
        struct vd_claim_result r;
        uint64_t shared = 0, bad = 0, at = 0;

        vd_unit_noise((uint8_t *)noise, sizeof(noise), seed + round);
        for (int i = 0; i < N; i++) {
            bool jumps = noise[i] % 8 == 0 || !at;

            at = jumps ? (noise[i] >> 8) % (clusters + 3) : at + 1;
            offsets[i] = AT(at) + (noise[i] % 97 == 0);
            if (offsets[i] % AT(1) || at >= clusters || (at == 0 && offsets[i] > 1)) {
                bad += offsets[i] > 1;
            } else if (at) {
                shared += refs[at] > 0;
                refs[at] = refs[at] ? 2 : 1;
            }
        }
        r = claim_batch(map, offsets, N);
        ck_assert_uint_eq(r.shared, shared);
        ck_assert_uint_eq(r.bad, bad);
    }
    for (uint64_t c = 0; c < clusters; c++) /* an assertion each would take minutes */
        wrong += vd_usemap_is_used(map, c) != (refs[c] > 0) || vd_usemap_is_shared(map, c) != (refs[c] > 1);
    ck_assert_uint_eq(wrong, 0);
    free(refs);
}

START_TEST(random_tables_are_counted_like_by_hand)
{
    for (uint64_t seed = 0; seed < 20; seed++)
        compare_with_counters(1000 + seed, seed * 1000);
    compare_with_counters(2 * PAGE + 77, 1);
    compare_with_counters((uint64_t)70 * PAGE, 2);
}
END_TEST

/* ---- free runs, and all runs */

static void expect_free(struct vd_usemap *map, const char *expected)
{
    struct vd_err err = VD_ERR_INIT;
    struct vd_runs out = {0};
    char text[400] = "";
    size_t at = 0;

    must(vd_usemap_free_runs(map, &out, &err), &err);
    for (size_t i = 0; i < out.n; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%llu+%llu", i ? " " : "",
                               (unsigned long long)out.v[i].first, (unsigned long long)out.v[i].count);
    ck_assert_str_eq(text, expected);
    ck_assert_uint_eq(vd_usemap_count_free(map), vd_runs_total(&out));
    vd_runs_done(&out);
}

START_TEST(free_runs_are_what_nobody_claimed)
{
    vd_auto(vd_usemap) map = make(200);

    expect_free(map, "0+200");
    claim(map, VD_KIND_HEADER, 0, 1);
    expect_free(map, "1+199");
    claim(map, VD_KIND_DATA, 63, 2);
    claim(map, VD_KIND_DATA, 127, 1);
    expect_free(map, "1+62 65+62 128+72");
    claim(map, VD_KIND_DATA, 199, 1);
    expect_free(map, "1+62 65+62 128+71");
    claim(map, VD_KIND_DATA, 0, 200);
    expect_free(map, "");
}
END_TEST

START_TEST(free_runs_join_over_pages_touched_and_untouched)
{
    vd_auto(vd_usemap) map = make(5 * PAGE);

    claim(map, VD_KIND_DATA, 10, 1);
    claim(map, VD_KIND_DATA, 3 * PAGE, 1);
    expect_free(map, "0+10 11+196597 196609+131071");
    claim(map, VD_KIND_DATA, 2 * PAGE - 1, 1);
    expect_free(map, "0+10 11+131060 131072+65536 196609+131071");
    claim(map, VD_KIND_DATA, PAGE, PAGE);
    expect_free(map, "0+10 11+65525 131072+65536 196609+131071");
}
END_TEST

START_TEST(a_map_of_nothing_has_no_runs)
{
    vd_auto(vd_usemap) map = make(0);

    expect_free(map, "");
    ck_assert(!vd_usemap_is_used(map, 0));
    ck_assert_int_eq(vd_usemap_kind(map, 0, NULL), VD_KIND_FREE);
}
END_TEST

struct listing {
    char text[1000];
    uint64_t next;
    int stop_after;
};

static int on_run(void *opaque, uint64_t first, uint64_t count, enum vd_kind kind, uint64_t refs)
{
    static const char letters[] = {[VD_KIND_FREE] = '-',
                                   [VD_KIND_HEADER] = 'H',
                                   [VD_KIND_L1] = 'T',
                                   [VD_KIND_L2] = 't',
                                   [VD_KIND_DATA] = 'D'};
    struct listing *l = opaque;
    size_t at = strlen(l->text);

    ck_assert_uint_eq(first, l->next);
    ck_assert_uint_gt(count, 0);
    l->next = first + count;
    snprintf(l->text + at, sizeof(l->text) - at, "%s%llu%c%llu", at ? " " : "", (unsigned long long)count,
             letters[kind], (unsigned long long)refs);
    return l->stop_after && --l->stop_after == 0 ? -1 : 0;
}

START_TEST(runs_cover_the_whole_map_in_order)
{
    vd_auto(vd_usemap) map = make(3 * PAGE);
    struct listing l = {0};

    claim(map, VD_KIND_HEADER, 0, 1);
    claim(map, VD_KIND_L1, 1, 4);
    claim(map, VD_KIND_L2, 10, 4);
    claim(map, VD_KIND_DATA, 5, 5);
    claim(map, VD_KIND_DATA, 8, 3); /* two of data twice, one into the table */
    claim(map, VD_KIND_DATA, PAGE - 1, 2);
    claim(map, VD_KIND_DATA, 3 * PAGE - 1, 1);
    ck_assert_int_eq(vd_usemap_each_run(map, on_run, &l), 0);
    ck_assert_uint_eq(l.next, 3 * PAGE);
    ck_assert_str_eq(l.text, "1H1 4T1 3D1 2D2 1t2 3t1 65521-0 2D1 131070-0 1D1");
}
END_TEST

START_TEST(metadata_that_overlaps_is_told_once)
{
    vd_auto(vd_usemap) map = make(100);
    struct listing l = {0};

    claim(map, VD_KIND_L1, 10, 10);
    claim(map, VD_KIND_L2, 12, 4);
    claim(map, VD_KIND_L2, 18, 4);
    ck_assert_int_eq(vd_usemap_each_run(map, on_run, &l), 0);
    ck_assert_uint_eq(l.next, 100);
    ck_assert_str_eq(l.text, "10-0 2T1 4T2 2T1 2T2 2t1 78-0");
}
END_TEST

START_TEST(the_telling_of_runs_ends_when_asked)
{
    vd_auto(vd_usemap) map = make(100);
    struct listing l = {.stop_after = 2};

    claim(map, VD_KIND_DATA, 10, 10);
    ck_assert_int_eq(vd_usemap_each_run(map, on_run, &l), -1);
    ck_assert_str_eq(l.text, "10-0 10D1");
}
END_TEST

/* ---- limits */

START_TEST(a_file_of_too_many_clusters_is_refused)
{
    struct vd_err err;

    must_be_null(vd_usemap_new(VD_MAP_BITS, BITS, ((uint64_t)1 << 36) + 1, &budget, &err), &err,
                 VD_ERR_LIMIT);
    must_be_null(vd_usemap_new(VD_MAP_BITS, BITS, UINT64_MAX, &budget, &err), &err, VD_ERR_LIMIT);
}
END_TEST

START_TEST(a_hostile_sparse_file_costs_what_its_claims_touch)
{
    struct vd_budget small = {.memory = 100 << 10};
    struct vd_err err = VD_ERR_INIT;
    struct vd_usemap *map = vd_usemap_new(VD_MAP_BITS, 12, (uint64_t)1 << 36, &small, &err);
    uint64_t shared;
    int rc = 0, claims;

    must_have(map, &err);
    for (claims = 0; rc == 0 && claims < 1000; claims++)
        rc = vd_usemap_claim(map, &(struct vd_claim){VD_KIND_DATA, VD_NOWHERE, 1}, (uint64_t)claims << 20, 1,
                             &shared, &err);
    ck_assert_int_eq(rc, -1);
    ck_assert_int_eq(err.kind, VD_ERR_LIMIT);
    ck_assert_int_gt(claims, 5);
    ck_assert_int_lt(claims, 20);
    vd_usemap_free(map);
    ck_assert_uint_eq(small.memory, 100 << 10); /* all of it is given back */
}
END_TEST

START_TEST(the_budget_bounds_large_maps_and_shared_clusters_as_well)
{
    struct vd_budget small = {.memory = 20 << 10};
    struct vd_err err = VD_ERR_INIT;
    static const uint64_t offsets[] = {AT(5), AT(5), AT(5 + 80 * PAGE), AT(5 + 80 * PAGE), AT(5 + 90 * PAGE)};
    struct vd_claim_batch batch = {.offsets = offsets, .n = 5, .hi = AT((uint64_t)100 * PAGE)};
    struct vd_claim_result r = {0};
    struct vd_usemap *map = vd_usemap_new(VD_MAP_BITS, BITS, (uint64_t)100 * PAGE, &small, &err);

    must_have(map, &err);
    must_fail(vd_usemap_claim_batch(map, &batch, &r, &err), &err, VD_ERR_LIMIT);
    vd_usemap_free(map);
    ck_assert_uint_eq(small.memory, 20 << 10);
}
END_TEST

UNIT_TESTS("usemap", a_new_map_is_free, claims_are_counted_as_shared_the_second_time,
           claims_reach_over_page_borders, the_last_cluster_can_be_claimed,
           metadata_is_known_by_its_kind_and_reference, metadata_keeps_its_kind_when_data_claims_it_too,
           of_metadata_that_overlaps_the_first_is_told,
           metadata_is_listed_in_order_and_again_after_more_of_it, a_table_in_order_is_one_stretch,
           the_pieces_of_a_table_go_on_where_the_one_before_ended,
           entries_that_are_not_good_are_told_and_not_claimed, a_stretch_ends_at_the_highest_good_offset,
           entries_named_twice_are_shared, data_that_names_metadata_is_shared,
           breaks_of_the_order_are_fragments, an_empty_table_claims_nothing,
           only_the_zero_value_itself_counts_as_zero_cluster, random_tables_are_counted_like_by_hand,
           free_runs_are_what_nobody_claimed, free_runs_join_over_pages_touched_and_untouched,
           a_map_of_nothing_has_no_runs, runs_cover_the_whole_map_in_order,
           metadata_that_overlaps_is_told_once, the_telling_of_runs_ends_when_asked,
           a_file_of_too_many_clusters_is_refused, a_hostile_sparse_file_costs_what_its_claims_touch,
           the_budget_bounds_large_maps_and_shared_clusters_as_well)
