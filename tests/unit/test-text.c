/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/base/text.h"

#include "formats/base/auto.h"
#include "tests/unit/unit.h"

START_TEST(sizes_are_exact_where_round_and_have_one_decimal_where_not)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        {0,                  "0 bytes"   },
        {1,                  "1 byte"    },
        {512,                "512 bytes" },
        {1023,               "1023 bytes"},
        {1024,               "1 KiB"     },
        {1536,               "1.5 KiB"   },
        {65536,              "64 KiB"    },
        {(1 << 20) + 1,      "1.0 MiB"   },
        {(uint64_t)3 << 29,  "1.5 GiB"   },
        {(uint64_t)64 << 40, "64 TiB"    },
        {(uint64_t)1 << 50,  "1 PiB"     },
        {(uint64_t)1 << 60,  "1 EiB"     },
        {(uint64_t)1 << 63,  "8 EiB"     },
        {UINT64_MAX,         "16.0 EiB"  },
    };
    char buf[VD_TEXT_SIZE_MAX];

    for (size_t i = 0; i < VD_ARRAY_SIZE(cases); i++)
        ck_assert_str_eq(vd_text_size(buf, cases[i].bytes), cases[i].text);
}
END_TEST

START_TEST(words_for_sizes_are_read)
{
    static const struct {
        const char *text;
        int64_t bytes;
    } cases[] = {
        {"0",                   0               },
        {"512",                 512             },
        {"512B",                512             },
        {"64k",                 65536           },
        {"64K",                 65536           },
        {"64KiB",               65536           },
        {"64kB",                65536           },
        {"1M",                  1 << 20         },
        {"3G",                  (int64_t)3 << 30},
        {"2T",                  (int64_t)2 << 40},
        {"5P",                  (int64_t)5 << 50},
        {"7E",                  (int64_t)7 << 60},
        {"0x200",               512             },
        {"0X10k",               16384           },
        {"0x1E",                30              },
        {"010",                 10              },
        {"9223372036854775807", INT64_MAX       },
    };
    int64_t v;

    for (size_t i = 0; i < VD_ARRAY_SIZE(cases); i++) {
        v = -1;
        ck_assert_msg(vd_text_parse_size(cases[i].text, &v), "%s", cases[i].text);
        ck_assert_msg(v == cases[i].bytes, "%s: %lld", cases[i].text, (long long)v);
    }
}
END_TEST

START_TEST(what_is_no_size_is_refused_and_changes_nothing)
{
    static const char *const cases[] = {
        "",
        " 1",
        "1 ",
        "-1",
        "+1",
        "k",
        "1x",
        "1kk",
        "1ki",
        "1iB",
        "1KiBs",
        "1.5G",
        "0x",
        "0xg",
        "1b",
        "1 k",
        "8E",
        "16E",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999",
        "9007199254740992K",
        "0x8000000000000000",
        "0xfffffffffffffffffffk",
    };
    int64_t v;

    for (size_t i = 0; i < VD_ARRAY_SIZE(cases); i++) {
        v = -7;
        ck_assert_msg(!vd_text_parse_size(cases[i], &v), "'%s' was read as %lld", cases[i], (long long)v);
        ck_assert_int_eq(v, -7);
    }
}
END_TEST

static size_t utf8(const char *bytes, size_t left)
{
    return vd_text_utf8_len((const unsigned char *)bytes, left);
}

START_TEST(well_formed_characters_have_their_length)
{
    ck_assert_uint_eq(utf8("a", 1), 1);
    ck_assert_uint_eq(utf8("\0", 1), 1);
    ck_assert_uint_eq(utf8("\x7f", 1), 1);
    ck_assert_uint_eq(utf8("\xc2\x80", 2), 2);
    ck_assert_uint_eq(utf8("\xdf\xbf", 2), 2);
    ck_assert_uint_eq(utf8("\xe0\xa0\x80", 3), 3);
    ck_assert_uint_eq(utf8("\xed\x9f\xbf", 3), 3);
    ck_assert_uint_eq(utf8("\xee\x80\x80", 3), 3);
    ck_assert_uint_eq(utf8("\xef\xbf\xbf", 3), 3);
    ck_assert_uint_eq(utf8("\xf0\x90\x80\x80", 4), 4);
    ck_assert_uint_eq(utf8("\xf4\x8f\xbf\xbf", 4), 4);
    ck_assert_uint_eq(utf8("\xc3\xa4z", 3), 2);
}
END_TEST

START_TEST(malformed_characters_have_none)
{
    ck_assert_uint_eq(utf8("", 0), 0);
    ck_assert_uint_eq(utf8("\x80", 1), 0); /* a continuation alone */
    ck_assert_uint_eq(utf8("\xc3", 1), 0); /* cut off */
    ck_assert_uint_eq(utf8("\xe2\x82", 2), 0);
    ck_assert_uint_eq(utf8("\xf0\x9f\x98", 3), 0);
    ck_assert_uint_eq(utf8("\xc3z", 2), 0); /* no continuation */
    ck_assert_uint_eq(utf8("\xe2\x82z", 3), 0);
    ck_assert_uint_eq(utf8("\xc0\x80", 2), 0); /* overlong */
    ck_assert_uint_eq(utf8("\xc1\xbf", 2), 0);
    ck_assert_uint_eq(utf8("\xe0\x9f\xbf", 3), 0);
    ck_assert_uint_eq(utf8("\xf0\x8f\xbf\xbf", 4), 0);
    ck_assert_uint_eq(utf8("\xed\xa0\x80", 3), 0); /* surrogates */
    ck_assert_uint_eq(utf8("\xed\xbf\xbf", 3), 0);
    ck_assert_uint_eq(utf8("\xf4\x90\x80\x80", 4), 0); /* behind the last */
    ck_assert_uint_eq(utf8("\xf8\x88\x80\x80\x80", 5), 0);
    ck_assert_uint_eq(utf8("\xff", 1), 0);
}
END_TEST

START_TEST(plain_text_has_no_control_bytes)
{
    ck_assert(vd_text_is_plain("", 0));
    ck_assert(vd_text_is_plain("disk \xc3\xa4.qed", 11));
    ck_assert(!vd_text_is_plain("a\nb", 3));
    ck_assert(!vd_text_is_plain("a\0b", 3));
    ck_assert(!vd_text_is_plain("\x1b[2J", 4));
    ck_assert(!vd_text_is_plain("\x7f", 1));
    ck_assert(!vd_text_is_plain("\xc3", 1));
}
END_TEST

static const char *escaped(const char *src, size_t len)
{
    static char buf[64];

    return vd_text_escape(buf, sizeof(buf), src, len);
}

START_TEST(what_could_command_a_terminal_is_escaped)
{
    ck_assert_str_eq(escaped("plain \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80", 15),
                     "plain \xc3\xa4 \xe2\x82\xac \\xf0\\x9f");
    ck_assert_str_eq(escaped("\xf0\x9f\x98\x80", 4), "\xf0\x9f\x98\x80");
    ck_assert_str_eq(escaped("a\nb\tc\x1b[", 7), "a\\x0ab\\x09c\\x1b[");
    ck_assert_str_eq(escaped("a\0b", 3), "a\\x00b");
    ck_assert_str_eq(escaped("\x7f", 1), "\\x7f");
    ck_assert_str_eq(escaped("a\\x0a", 5), "a\\\\x0a");
    ck_assert_str_eq(escaped("\xc2\x9b"
                             "2J",
                             4),
                     "\\xc2\\x9b"
                     "2J"); /* a C1 control is ESC [ to some */
    ck_assert_str_eq(escaped("\xc2\xa0", 2), "\xc2\xa0");
    ck_assert_str_eq(escaped("\xed\xa0\x80", 3), "\\xed\\xa0\\x80");
    ck_assert_str_eq(escaped("", 0), "");
}
END_TEST

START_TEST(what_could_turn_the_text_around_is_escaped)
{
    ck_assert_str_eq(escaped("a\xe2\x80\xaegpj.exe", 11), "a\\xe2\\x80\\xaegpj.exe");
    ck_assert_str_eq(escaped("\xe2\x81\xa6", 3), "\\xe2\\x81\\xa6");
    ck_assert_str_eq(escaped("\xe2\x80\xa8", 3), "\\xe2\\x80\\xa8");
    ck_assert_str_eq(escaped("\xd8\x9c", 2), "\\xd8\\x9c");
    /* Their neighbours, and letters that are written from right to left. */
    ck_assert_str_eq(escaped("\xe2\x80\x90\xe2\x80\xaf\xe2\x81\xaa", 9),
                     "\xe2\x80\x90\xe2\x80\xaf\xe2\x81\xaa");
    ck_assert_str_eq(escaped("\xd7\x90\xd8\x9b", 4), "\xd7\x90\xd8\x9b");
}
END_TEST

START_TEST(an_escaped_text_never_passes_its_room)
{
    static const char nasty[] = "\x01\x02\xc3\xa4\\\xf0\x9f\x98\x80z";
    char buf[64];

    for (size_t room = 1; room <= sizeof(buf); room++) {
        memset(buf, '#', sizeof(buf));
        vd_text_escape(buf, room, nasty, sizeof(nasty) - 1);
        ck_assert_uint_lt(strnlen(buf, sizeof(buf)), room);
        for (size_t i = room; i < sizeof(buf); i++)
            ck_assert_int_eq(buf[i], '#');
        /* No half of anything: what is there is the beginning of the whole. */
        ck_assert_int_eq(strncmp(buf, "\\x01\\x02\xc3\xa4\\\\\xf0\x9f\x98\x80z", strlen(buf)), 0);
        ck_assert(vd_text_is_plain(buf, strlen(buf)));
    }
}
END_TEST

START_TEST(a_copied_name_is_whole_characters_and_has_no_nul)
{
    static const char name[] = "\x1b\\\xc3\xa4\xe9\0z";
    static const char copy[] = "\x1b\\\xc3\xa4\xe9\xe2\x90\x80z";
    static const size_t ends[] = {0, 1, 2, 4, 5, 8, 9};
    char buf[16];

    ck_assert_str_eq(vd_text_copy(buf, sizeof(buf), name, sizeof(name) - 1), copy);
    for (size_t room = 1; room <= sizeof(buf); room++) {
        size_t n = 0;

        for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++)
            n = ends[i] < room ? ends[i] : n;
        memset(buf, '#', sizeof(buf));
        vd_text_copy(buf, room, name, sizeof(name) - 1);
        ck_assert_uint_eq(strlen(buf), n);
        ck_assert_int_eq(strncmp(buf, copy, n), 0);
    }
}
END_TEST

START_TEST(a_name_becomes_one_word_of_the_shell)
{
    static const char *const pairs[][2] = {
        {"/var/lib/a-1.qed", "/var/lib/a-1.qed"   },
        {"my disk.qed",      "'my disk.qed'"      },
        {"it's",             "'it'\\''s'"         },
        {"$(x);`y`&\\",      "'$(x);`y`&\\'"      },
        {"-x",               "./-x"               },
        {"- x",              "'./- x'"            },
        {"",                 "''"                 },
        {"\xc3\xa4",         "'\xc3\xa4'"         },
        {"a\nb'\\",          "$'a\\x0ab\\'\\\\'"  },
        {"\xe9\xc3\xa4",     "$'\\xe9\\xc3\\xa4'" },
        {"~a",               "'~a'"               },
        {"\xe2\x80\xaex",    "$'\\xe2\\x80\\xaex'"},
    };
    char buf[64];

    for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++)
        ck_assert_str_eq(vd_text_shell(buf, sizeof(buf), pairs[i][0]), pairs[i][1]);
    for (size_t room = 8; room <= sizeof(buf); room++) {
        memset(buf, '#', sizeof(buf));
        vd_text_shell(buf, room, "a'b\nc'd'e");
        ck_assert_uint_lt(strlen(buf), room);
    }
}
END_TEST

UNIT_TESTS("text", sizes_are_exact_where_round_and_have_one_decimal_where_not, words_for_sizes_are_read,
           what_is_no_size_is_refused_and_changes_nothing, well_formed_characters_have_their_length,
           malformed_characters_have_none, plain_text_has_no_control_bytes,
           what_could_command_a_terminal_is_escaped, what_could_turn_the_text_around_is_escaped,
           an_escaped_text_never_passes_its_room, a_copied_name_is_whole_characters_and_has_no_nul,
           a_name_becomes_one_word_of_the_shell)
