/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Prints what manual pages and shell completion take from the rows: gen-doc TEMPLATE copies the template and
 * puts the lists where it finds @OPTIONS@ (of the check), @COMMANDS@, @OWNOPTIONS@ (of the other
 * commands), @FINDINGS@, @ARMS@, @WORDS@ or @TITLE:page@ alone on a line.
 */
#include <ctype.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "formats/finding.h"
#include "formats/node/block.h"
#include "formats/registry.h"

enum {
#define CMD(symbol, ...) INDEX_##symbol,
#include "report/commands.def"
#undef CMD
    COMMANDS_N,
};

enum {
#define CMD(symbol, ...) CMD_##symbol = 1 << INDEX_##symbol,
#include "report/commands.def"
#undef CMD
    CMD_ALL = (1 << COMMANDS_N) - 1,
};

static const struct {
    const char *word, *arguments, *help;
} commands[] = {
#define CMD(symbol, word, arguments, help) {word, arguments, help},
#include "report/commands.def"
#undef CMD
};

#define NO       no_argument
#define REQUIRED required_argument
#define OPTIONAL optional_argument
static const struct {
    char letter;
    const char *name;
    int argument;
    const char *argument_name;
    unsigned commands;
    const char *help;
} options[] = {
#define OPT(symbol, letter, name, argument, argument_name, commands, help)                                   \
    {letter, name, argument, argument_name, commands, help},
#include "report/options.def"
#undef OPT
};

static size_t options_n = sizeof(options) / sizeof(options[0]);

enum { COLUMNS = 78 };

static int column;

static void put_word(const char *word, size_t len)
{
    if (column && column + 1 + (int)len > COLUMNS) {
        putchar('\n');
        column = 0;
    }
    if (column)
        column += printf(" ");
    /* No line begins with a control character, and a backslash or a hyphen is shown as one. */
    if (!column && (*word == '.' || *word == '\''))
        column += printf("\\&");
    for (size_t i = 0; i < len; i++) {
        if (word[i] == '\\')
            column += printf("\\e");
        else
            column += printf("%s%c", word[i] == '-' ? "\\" : "", word[i]);
    }
}

/* Text in lines of bounded length; a sentence begins a line, as man pages have it. */
static void print_text(const char *text)
{
    column = 0;
    while (*text) {
        size_t len = strcspn(text, " ");

        put_word(text, len);
        if (strchr(".?!", text[len - 1]) && isupper((unsigned char)text[len + (text[len] != '\0')])) {
            putchar('\n');
            column = 0;
        }
        text += len;
        text += strspn(text, " ");
    }
}

/* A sentence of its own: first letter large, a full stop at the end. */
static void print_sentence(const char *text)
{
    char copy[2048];
    size_t len = strlen(text);

    snprintf(copy, sizeof(copy), "%s%s", text, strchr(".?!", text[len - 1]) ? "" : ".");
    copy[0] = (char)toupper((unsigned char)copy[0]);
    print_text(copy);
    putchar('\n');
}

static void print_escaped(const char *text)
{
    for (; *text; text++)
        printf("%s%c", *text == '-' ? "\\" : "", *text);
}

static void print_option_head(size_t i)
{
    puts(".TP");
    fputs(".B ", stdout);
    if (options[i].letter)
        printf("\\-%c%s", options[i].letter, options[i].name ? ", " : "");
    if (options[i].name) {
        fputs("\\-\\-", stdout);
        print_escaped(options[i].name);
    }
    if (options[i].argument == required_argument)
        printf("%s\\fI%s\\fP", options[i].name ? "=" : " ", options[i].argument_name);
    else if (options[i].argument == optional_argument)
        printf("\\fR[=\\fI%s\\fR]\\fP", options[i].argument_name);
    putchar('\n');
}

/* What all commands have is told once, with the check. */
static bool tells_option(int command, size_t i)
{
    return (options[i].commands & (1u << command)) &&
           (command == INDEX_CHECK || options[i].commands != CMD_ALL);
}

static void print_options(int command)
{
    for (size_t i = 0; i < options_n; i++)
        if (tells_option(command, i)) {
            print_option_head(i);
            print_sentence(options[i].help);
        }
}

/* A subsection for each command that has options of its own. */
static void print_own_options(void)
{
    for (int command = 1; command < COMMANDS_N; command++) {
        size_t i = 0;

        while (i < options_n && !tells_option(command, i))
            i++;
        if (i == options_n)
            continue;
        printf(".SS %s\n", commands[command].word);
        print_options(command);
    }
}

static void print_commands(void)
{
    for (int i = 1; i < COMMANDS_N; i++) {
        printf(".TP\n.B %s \\fI", commands[i].word);
        print_escaped(commands[i].arguments);
        puts("\\fP");
        print_sentence(commands[i].help);
    }
}

static void print_finding(const struct vd_finding_kind *row)
{
    printf(".TP\n.B ");
    print_escaped(row->id);
    printf(" \\fR(%s, level %s)\\fP\n", vd_severity_name(row->severity), vd_level_name(row->level));
    print_sentence(row->message);
    print_sentence(row->explanation);
    puts(".IR Repair :");
    print_sentence(row->repair);
}

static void print_findings(const struct vd_finding_kind *rows, size_t n, const char *heading)
{
    if (!n)
        return;
    fputs(".SH ", stdout);
    for (; *heading; heading++)
        putchar(toupper((unsigned char)*heading));
    putchar('\n');
    for (size_t i = 0; i < n; i++)
        print_finding(&rows[i]);
}

/* One section for what holds for all formats, and one for each driver that has findings. */
static void print_all_findings(void)
{
    const struct BlockDriver *drv;

    print_findings(vd_image_findings, vd_image_findings_n, "all formats");
    for (size_t i = 0; (drv = vd_driver_at(i)); i++)
        print_findings(drv->findings, drv->findings_n, drv->format_name);
}

/* The rows of one command as a word list of the shell. */
static void print_completion(int command)
{
    for (size_t i = 0; i < options_n; i++) {
        if (!(options[i].commands & (1u << command)))
            continue;
        if (options[i].letter)
            printf(" -%c", options[i].letter);
        if (options[i].name)
            printf(" --%s%s", options[i].name, options[i].argument == required_argument ? "=" : "");
    }
}

static void print_case_arms(void)
{
    for (int i = 0; i < COMMANDS_N; i++) {
        printf("    %s) words='", commands[i].word);
        print_completion(i);
        puts("' ;;");
    }
}

static void print_words(void)
{
    for (int i = 1; i < COMMANDS_N; i++)
        printf("%s%s", i > 1 ? " " : "commands='", commands[i].word);
    puts("'");
}

static bool expand(const char *mark)
{
    char kind[32], what[32] = "";

    if (sscanf(mark, "@%31[A-Z]:%31[a-z0-9]@", kind, what) < 1 || mark[strlen(mark) - 1] != '@')
        return false;
    if (strcmp(kind, "OPTIONS") == 0)
        print_options(INDEX_CHECK);
    else if (strcmp(kind, "OWNOPTIONS") == 0)
        print_own_options();
    else if (strcmp(kind, "COMMANDS") == 0)
        print_commands();
    else if (strcmp(kind, "FINDINGS") == 0)
        print_all_findings();
    else if (strcmp(kind, "ARMS") == 0)
        print_case_arms();
    else if (strcmp(kind, "WORDS") == 0)
        print_words();
    else if (strcmp(kind, "TITLE") == 0)
        printf(".TH %s 2026-11-21 \"vdcheck %s\" \"vdcheck\"\n",
               what[0] == 'v' ? "VDCHECK 1" : "VDCHECK-FINDINGS 7", PACKAGE_VERSION);
    else
        return false;
    return true;
}

int main(int argc, char **argv)
{
    FILE *f = argc == 2 ? fopen(argv[1], "r") : NULL;
    char line[4096];

    if (!f) {
        fputs("gen-doc: a template is expected\n", stderr);
        return 1;
    }
    while (fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] != '@' || !expand(line))
            puts(line);
    }
    fclose(f);
    return fflush(stdout) == 0 ? 0 : 1;
}
