/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "checker/usemap.h"

#include <stdlib.h>

#include "tests/unit/unit.h"

enum { BITS = 16, PAGE = 65536 };

#define AT(cluster) ((uint64_t)(cluster) << BITS)

static struct vd_budget budget = VD_BUDGET_INIT;

static struct vd_usemap *make(uint64_t clusters)
{
    struct vd_err err = VD_ERR_INIT;
    struct vd_usemap *map = vd_usemap_new(VD_MAP_COUNTS, BITS, clusters, &budget, &err);

    must_have(map, &err);
    return map;
}

static uint64_t claim(struct vd_usemap *map, enum vd_kind kind, uint64_t first, uint64_t count,
                      uint64_t weight)
{
    struct vd_claim c = {kind, first + 1000, weight};
    struct vd_err err = VD_ERR_INIT;
    uint64_t shared;

    must(vd_usemap_claim(map, &c, first, count, &shared, &err), &err);
    return shared;
}

static struct vd_count_result count(struct vd_usemap *map, const uint64_t *words, size_t n, uint64_t weight,
                                    bool has_places)
{
    struct vd_err err = VD_ERR_INIT;
    struct vd_count_result result = {0};
    struct vd_count_batch batch = {.words = words,
                                   .n = n,
                                   .weight = weight,
                                   .hi = AT(vd_usemap_clusters(map)),
                                   .tells_only = true,
                                   .has_places = has_places};

    must(vd_usemap_count_batch(map, &batch, &result, &err), &err);
    return result;
}

START_TEST(claims_add_up_by_their_weight)
{
    vd_auto(vd_usemap) map = make(2 * PAGE);

    ck_assert_uint_eq(claim(map, VD_KIND_L2, PAGE - 1, 2, 1), 0);
    ck_assert_uint_eq(claim(map, VD_KIND_L2, PAGE, 1, 5), 1);
    ck_assert_uint_eq(vd_usemap_refs(map, PAGE - 1), 1);
    ck_assert_uint_eq(vd_usemap_refs(map, PAGE), 6);
    ck_assert_uint_eq(vd_usemap_refs(map, PAGE + 1), 0);
    ck_assert(vd_usemap_is_shared(map, PAGE) && !vd_usemap_is_shared(map, PAGE - 1));
}
END_TEST

START_TEST(counts_that_no_byte_holds_are_kept_exactly)
{
    vd_auto(vd_usemap) map = make(1000);

    for (uint64_t c = 0; c < 300; c++)
        claim(map, VD_KIND_DATA, c, 1, 60 + c);
    for (uint64_t c = 0; c < 300; c++)
        claim(map, VD_KIND_DATA, c, 1, 1);
    for (uint64_t c = 0; c < 300; c++)
        ck_assert_uint_eq(vd_usemap_refs(map, c), 61 + c);
    claim(map, VD_KIND_DATA, 7, 1, UINT64_MAX);
    ck_assert_uint_eq(vd_usemap_refs(map, 7), UINT64_MAX); /* saturated */
}
END_TEST

START_TEST(a_table_is_counted_with_what_its_words_say)
{
    static const uint64_t words[] = {AT(5) | VD_WORD_ONLY, 0,      AT(6) | VD_WORD_ONLY, AT(9),
                                     AT(7) + 512,          AT(100)};
    vd_auto(vd_usemap) map = make(100);
    struct vd_count_result r = count(map, words, 6, 1, false);

    ck_assert_uint_eq(r.counted, 3);
    ck_assert_uint_eq(r.bad, 2); /* not at a cluster, and behind the end */
    ck_assert_uint_eq(r.fragmented, 1);
    ck_assert_uint_eq(r.misplaced, 0);
    ck_assert(vd_usemap_refs_of(map, 5).said_only && !vd_usemap_refs_of(map, 5).said_shared);
    ck_assert(!vd_usemap_refs_of(map, 9).said_only && vd_usemap_refs_of(map, 9).said_shared);
    ck_assert_uint_eq(vd_usemap_end(map), 10);
}
END_TEST

START_TEST(without_snapshots_a_second_claim_is_a_conflict)
{
    static const uint64_t words[] = {AT(5), AT(6), AT(5)};
    vd_auto(vd_usemap) map = make(100);

    claim(map, VD_KIND_L1, 6, 1, 1);
    ck_assert_uint_eq(count(map, words, 3, 1, false).misplaced, 2);
    ck_assert(vd_usemap_refs_of(map, 5).is_conflicted && vd_usemap_refs_of(map, 6).is_conflicted);
    ck_assert(!vd_usemap_refs_of(map, 7).is_conflicted);
}
END_TEST

START_TEST(with_snapshots_a_second_place_is_a_conflict_and_a_second_tree_is_none)
{
    static const uint64_t one[] = {AT(5), AT(6)}, two[] = {AT(5) | VD_WORD_SAME_PLACE, AT(7)},
                          three[] = {AT(6)};
    vd_auto(vd_usemap) map = make(100);

    claim(map, VD_KIND_L2, 7, 1, 1);
    ck_assert_uint_eq(count(map, one, 2, 3, true).misplaced, 0); /* three trees share the table */
    ck_assert_uint_eq(count(map, two, 2, 1, true).misplaced, 1); /* metadata has no guest position */
    ck_assert_uint_eq(count(map, three, 1, 1, true).misplaced, 1);
    ck_assert_uint_eq(vd_usemap_refs(map, 5), 4);
    ck_assert(!vd_usemap_refs_of(map, 5).is_conflicted);
    ck_assert(vd_usemap_refs_of(map, 6).is_conflicted && vd_usemap_refs_of(map, 7).is_conflicted);
}
END_TEST

START_TEST(compressed_data_shares_with_its_like_only)
{
    static const uint64_t words[] = {AT(5)};
    vd_auto(vd_usemap) map = make(100);

    ck_assert_uint_eq(claim(map, VD_KIND_COMPRESSED, 5, 2, 1), 0);
    ck_assert_uint_eq(claim(map, VD_KIND_COMPRESSED, 6, 2, 1), 0);
    ck_assert(!vd_usemap_refs_of(map, 6).is_conflicted && vd_usemap_refs_of(map, 6).is_compressed);
    ck_assert_int_eq(vd_usemap_kind(map, 6, NULL), VD_KIND_COMPRESSED);
    ck_assert_uint_eq(count(map, words, 1, 1, true).misplaced, 1);
    ck_assert(vd_usemap_refs_of(map, 5).is_conflicted);
}
END_TEST

START_TEST(a_comparison_tells_every_difference_and_nothing_else)
{
    static const uint64_t words[] = {AT(1) | VD_WORD_ONLY, AT(2), AT(3) | VD_WORD_ONLY, AT(4) | VD_WORD_ONLY};
    static const uint64_t stored[] = {0, 1, 1, 1, 2, 1, 0, 1};
    vd_auto(vd_usemap) map = make(6);
    uint32_t odd[8];

    count(map, words, 4, 1, false);
    claim(map, VD_KIND_DATA, 3, 1, 1);
    claim(map, VD_KIND_L1, 5, 1, 1);
    /* 2 says that it is shared and is not; 3 has two claims, one stored, and says it has one; 4 is counted
     * too high; 7 lies behind the map. */
    ck_assert_uint_eq(vd_usemap_compare(map, 0, stored, 8, odd), 4);
    ck_assert_uint_eq(odd[0], 2);
    ck_assert_uint_eq(odd[1], 3);
    ck_assert_uint_eq(odd[2], 4);
    ck_assert_uint_eq(odd[3], 7);
}
END_TEST

START_TEST(the_next_claim_is_found_over_untouched_pages)
{
    vd_auto(vd_usemap) map = make(10 * (uint64_t)PAGE);

    ck_assert_uint_eq(vd_usemap_next_used(map, 0), VD_NOWHERE);
    claim(map, VD_KIND_DATA, 7 * (uint64_t)PAGE + 3, 2, 1);
    ck_assert_uint_eq(vd_usemap_next_used(map, 5), 7 * (uint64_t)PAGE + 3);
    ck_assert_uint_eq(vd_usemap_next_used(map, 7 * (uint64_t)PAGE + 4), 7 * (uint64_t)PAGE + 4);
    ck_assert_uint_eq(vd_usemap_next_used(map, 7 * (uint64_t)PAGE + 5), VD_NOWHERE);
    ck_assert_uint_eq(vd_usemap_next_used(map, UINT64_MAX), VD_NOWHERE);
}
END_TEST

START_TEST(all_memory_is_given_back)
{
    struct vd_budget small = {.memory = 4 << 20};
    struct vd_err err = VD_ERR_INIT;
    struct vd_usemap *map = vd_usemap_new(VD_MAP_COUNTS, BITS, 1000, &small, &err);
    uint64_t shared;

    must_have(map, &err);
    for (uint64_t c = 0; c < 500; c++)
        must(vd_usemap_claim(map, &(struct vd_claim){VD_KIND_COMPRESSED, 0, 100}, c, 1, &shared, &err), &err);
    vd_usemap_free(map);
    ck_assert_uint_eq(small.memory, 4 << 20);
}
END_TEST

UNIT_TESTS("usecount", claims_add_up_by_their_weight, counts_that_no_byte_holds_are_kept_exactly,
           a_table_is_counted_with_what_its_words_say, without_snapshots_a_second_claim_is_a_conflict,
           with_snapshots_a_second_place_is_a_conflict_and_a_second_tree_is_none,
           compressed_data_shares_with_its_like_only, a_comparison_tells_every_difference_and_nothing_else,
           the_next_claim_is_found_over_untouched_pages, all_memory_is_given_back)
