/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Words for people: sizes with units, and names from images and file systems made harmless.
 */
#ifndef VD_BASE_TEXT_H
#define VD_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VD_TEXT_SIZE_MAX 32

/* "0 bytes", "512 bytes", "64 KiB", "1.5 GiB": exact where the number is round, one decimal where not.
 * Returns buf. */
const char *vd_text_size(char buf[VD_TEXT_SIZE_MAX], uint64_t bytes);

/* Reads "64k", "1G", "512": decimal or 0x number, suffix k M G T P E in powers of 1024 (a trailing "iB" or
 * "B" is taken). false where the words are no size or it does not fit int64_t. */
bool vd_text_parse_size(const char *text, int64_t *bytes);

/* Is it well-formed UTF-8 (no surrogates, no overlong forms) without control bytes below space? */
bool vd_text_is_plain(const char *text, size_t len);

/* Length of the well-formed UTF-8 character at p (1 to 4), or 0. */
size_t vd_text_utf8_len(const unsigned char *p, size_t left);

/* Copies a name from an image to dst (room bytes, always terminated) as it is, for a story or a finding:
 * report/ escapes all that it prints, once. NUL, which a text cannot hold, stands as U+2400. Returns dst. */
const char *vd_text_copy(char *dst, size_t room, const char *src, size_t len);

enum { VD_TEXT_SHELL_MAX = 4 * 4096 + 8 }; /* bytes: room for any path as a word of the shell */

/* Writes a file name to dst as one word that bash takes for that very name, and that a terminal can show; a
 * name that begins with a dash gets "./" before it. Where room is short it ends early. Returns dst. */
const char *vd_text_shell(char *dst, size_t room, const char *name);

/* Copies len bytes to dst (room bytes, always terminated) with control characters, also those of the text's
 * direction, and what is not UTF-8 as \xNN, and a backslash doubled: what is printed to a terminal cannot
 * command it, nor look like something else. Returns dst. */
const char *vd_text_escape(char *dst, size_t room, const char *src, size_t len);

#endif
