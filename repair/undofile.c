/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "repair/undofile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum {
    MOST_FILES = 10000,
    /* Names in a row that people may have deleted. Every check looks for so many that are not there. */
    MOST_GAP = 16,
    MOST_PATH = 4096,
    MOST_NAME = 200, /* bytes of an image's name within that of an undo file */
};

char *vd_undofile_image(const char *path)
{
    struct stat st;
    char *real = lstat(path, &st) == 0 && S_ISLNK(st.st_mode) ? realpath(path, NULL) : NULL;

    return real ? real : strdup(path);
}

static char *name_of(const char *image, unsigned i)
{
    char *name = NULL;
    int n = i ? asprintf(&name, "%s.vdcheck-undo.%u", image, i) : asprintf(&name, "%s.vdcheck-undo", image);

    return n < 0 ? NULL : name;
}

static bool is_there(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

/* One more than the highest number of a name that is taken. */
static unsigned count_files(const char *image)
{
    unsigned n = 0;

    for (unsigned i = 0; i < MOST_FILES && i < n + MOST_GAP; i++) {
        vd_auto_mem char *name = name_of(image, i);

        if (name && is_there(name))
            n = i + 1;
    }
    return n;
}

/* The next free name of those that begin like this; begin NULL: no memory. */
static char *next_of(const char *begin, struct vd_err *err)
{
    unsigned n = begin ? count_files(begin) : 0;
    char *name = begin && n < MOST_FILES ? name_of(begin, n) : NULL;

    if (n >= MOST_FILES)
        vd_fail(err, VD_ERR_LIMIT, 0, "%s: %u undo files stand beside it; delete the oldest", begin, n);
    else if (!name)
        vd_fail_memory(err);
    return name;
}

char *vd_undofile_next(const char *path, struct vd_err *err)
{
    vd_auto_mem char *image = vd_undofile_image(path);

    return next_of(image, err);
}

/* How the names of an image's undo files begin in a folder for many: the image's own name, for people, as far
 * as it fits into a name, and what tells images of one name apart. */
static char *begin_in(const char *folder, const char *path)
{
    vd_auto_mem char *real = realpath(path, NULL);
    const char *image = real ? real : path, *slash = strrchr(image, '/');
    char *begin = NULL;

    if (asprintf(&begin, "%s/%.*s-%08" PRIx32, folder, (int)MOST_NAME, slash ? slash + 1 : image,
                 (uint32_t)XXH3_64bits(image, strlen(image))) < 0)
        return NULL;
    return begin;
}

char *vd_undofile_next_in(const char *folder, const char *image, struct vd_err *err)
{
    vd_auto_mem char *begin = begin_in(folder, image);

    return next_of(begin, err);
}

char *vd_undofile_stub(const char *path, struct vd_err *err)
{
    vd_auto_mem char *image = vd_undofile_image(path);
    char *name = NULL;

    if (!image || asprintf(&name, "%s.vdcheck-stub", image) < 0) {
        vd_fail_memory(err);
        return NULL;
    }
    return name;
}

/* Writes to the stub and brings it to stable storage. */
static int put_stub(const char *image, int flags, const char *text, struct vd_err *err)
{
    vd_auto_mem char *stub = vd_undofile_stub(image, err);
    ssize_t len = (ssize_t)strlen(text);
    int fd;

    if (!stub)
        return -1;
    fd = open(stub, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | flags, 0644);
    if (fd < 0)
        return vd_fail(err, VD_ERR_IO, errno, "%s: cannot name the undo file here", stub);
    if (write(fd, text, (size_t)len) != len || fsync(fd) < 0) {
        int errnum = errno;

        close(fd);
        return vd_fail(err, VD_ERR_IO, errnum, "%s: cannot name the undo file here", stub);
    }
    close(fd);
    return vd_journal_sync_folder(stub, err);
}

bool vd_undofile_may_not_write(int errnum)
{
    return errnum == EACCES || errnum == EPERM || errnum == EROFS;
}

/* Does the search beside the image find it? A name that only begins like the usual ones is none of them. */
static bool is_beside(const char *image, const char *journal)
{
    vd_auto_mem char *real = realpath(image, NULL);

    for (unsigned i = real ? count_files(real) : 0; i > 0; i--) {
        vd_auto_mem char *name = name_of(real, i - 1);

        if (name && strcmp(name, journal) == 0)
            return true;
    }
    return false;
}

int vd_undofile_write_stub(const char *image, const char *journal, struct vd_err *err)
{
    vd_auto_mem char *real = realpath(journal, NULL);
    const char *name = real ? real : journal;
    struct vd_err why = VD_ERR_INIT;
    struct stat st;

    if ((stat(image, &st) == 0 && !S_ISREG(st.st_mode)) || is_beside(image, name) ||
        put_stub(image, O_CREAT | O_TRUNC, name, &why) == 0 || vd_undofile_may_not_write(why.errnum))
        return 0;
    *err = why;
    return -1;
}

static const char keeps_mark[] = "\nkeeps leaks\n";

/* What the stub names; NULL where there is none. *only_keeps: its repair is finished. */
static char *read_stub(const char *image, bool *only_keeps)
{
    vd_auto_mem char *stub = vd_undofile_stub(image, NULL);
    char path[MOST_PATH], *end;
    ssize_t n;
    int fd = stub ? open(stub, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;

    *only_keeps = false;
    if (fd < 0)
        return NULL;
    n = read(fd, path, sizeof(path) - 1);
    close(fd);
    if (n <= 0)
        return NULL;
    path[n] = '\0';
    end = strchr(path, '\n');
    *only_keeps = end && strcmp(end, keeps_mark) == 0;
    if (*only_keeps)
        *end = '\0';
    return strdup(path);
}

char *vd_undofile_elsewhere(const char *image)
{
    bool only_keeps;

    return read_stub(image, &only_keeps);
}

static bool stub_names(const char *image, const char *journal)
{
    bool only_keeps;
    vd_auto_mem char *named = read_stub(image, &only_keeps);
    vd_auto_mem char *real = realpath(journal, NULL);

    return named && strcmp(named, real ? real : journal) == 0;
}

int vd_undofile_settle_stub(const char *image, struct vd_journal *journal, struct vd_err *err)
{
    vd_auto_mem char *stub = vd_undofile_stub(image, err);
    struct vd_runs kept = {0};
    uint64_t cluster_size;
    int rc = 0;

    if (!stub)
        return -1;
    if (!stub_names(image, vd_journal_path(journal)))
        return 0;
    if (vd_journal_kept_leaks(journal, &kept, &cluster_size, err) < 0)
        rc = -1;
    else if (kept.n)
        rc = put_stub(image, O_APPEND, keeps_mark, err);
    else
        (void)unlink(stub);
    vd_runs_done(&kept);
    return rc;
}

void vd_undofile_remove_stub(const char *image, const char *journal)
{
    vd_auto_mem char *stub = vd_undofile_stub(image, NULL);

    if (stub && stub_names(image, journal))
        (void)unlink(stub);
}

/* The main journal was never prepared, and swept; or people deleted it when all was long committed. */
static int state_without_main(struct vd_journal *journal, enum vd_journal_state *state, struct vd_err *err)
{
    if (vd_journal_state(journal, state, err) < 0)
        return -1;
    if (*state == VD_JOURNAL_PREPARED)
        *state = VD_JOURNAL_EMPTY;
    return 0;
}

/* The file of this path's name in the folder of the journal; malloc'd. */
static char *beside_journal(struct vd_journal *journal, const char *path)
{
    const char *own = vd_journal_path(journal), *slash = strrchr(own, '/'), *base = strrchr(path, '/');
    char *beside = NULL;

    if (asprintf(&beside, "%.*s%s", slash ? (int)(slash + 1 - own) : 0, own, base ? base + 1 : path) < 0)
        return NULL;
    return beside;
}

/* A repair of a chain has one number in all of its journals. */
static bool is_of_same_repair(struct vd_journal *journal, const char *path)
{
    struct vd_err ignored = VD_ERR_INIT;
    vd_auto(vd_journal) other = is_there(path) ? vd_journal_open(path, false, &ignored) : NULL;
    vd_auto_mem char *ours = vd_journal_get(journal, "repair_id");
    vd_auto_mem char *theirs = other ? vd_journal_get(other, "repair_id") : NULL;

    return ours && theirs && strcmp(ours, theirs) == 0;
}

char *vd_undofile_partner(struct vd_journal *journal, const char *key)
{
    vd_auto_mem char *named = vd_journal_get(journal, key);
    vd_auto_mem char *beside = named ? beside_journal(journal, named) : NULL;

    return beside && is_of_same_repair(journal, beside) ? vd_take(&beside) : vd_take(&named);
}

char *vd_undofile_image_of(struct vd_journal *journal)
{
    vd_auto_mem char *named = vd_journal_get(journal, "image");
    vd_auto_mem char *beside = named ? beside_journal(journal, named) : NULL;
    vd_auto_mem char *usual = beside ? name_of(beside, 0) : NULL;

    if (usual && strncmp(vd_journal_path(journal), usual, strlen(usual)) == 0 && is_there(beside))
        return vd_take(&beside);
    return vd_take(&named);
}

char *vd_undofile_member_image(struct vd_journal *journal, const char *top)
{
    vd_auto_mem char *image = vd_undofile_image_of(journal);
    const char *slash = strrchr(top, '/'), *base = image ? strrchr(image, '/') : NULL;
    char *beside = NULL;

    if (!base || is_there(image) ||
        asprintf(&beside, "%.*s%s", slash ? (int)(slash + 1 - top) : 0, top, base + 1) < 0)
        return vd_take(&image);
    return beside;
}

int vd_undofile_state(struct vd_journal *journal, enum vd_journal_state *state, struct vd_err *err)
{
    vd_auto_mem char *main_path = vd_undofile_partner(journal, "main");
    vd_auto(vd_journal) main_journal = NULL;

    if (!main_path)
        return vd_journal_state(journal, state, err);
    if (!is_there(main_path))
        return state_without_main(journal, state, err);
    main_journal = vd_journal_open(main_path, false, err);
    return main_journal ? vd_journal_state(main_journal, state, err) : -1;
}

static struct vd_journal *open_if(const char *path, unsigned wanted, bool writable,
                                  enum vd_journal_state *state, struct vd_err *err)
{
    vd_auto(vd_journal) journal = vd_journal_open(path, writable, err);

    if (!journal || vd_undofile_state(journal, state, err) < 0)
        return NULL;
    return wanted & (1u << *state) ? vd_take(&journal) : NULL;
}

/* A file that people name may be anything; what is no journal, or another image's, is not ours. */
static struct vd_journal *open_named(const char *image, const char *undo_file, unsigned wanted, bool writable,
                                     enum vd_journal_state *state, struct vd_err *err)
{
    struct vd_err ignored = VD_ERR_INIT;
    vd_auto(vd_journal) journal =
        undo_file && is_there(undo_file) ? vd_journal_open(undo_file, false, &ignored) : NULL;
    vd_auto_mem char *theirs = journal ? vd_undofile_image_of(journal) : NULL;
    vd_auto_mem char *ours = realpath(image, NULL);

    if (!theirs || !ours || strcmp(theirs, ours) != 0)
        return NULL;
    return open_if(undo_file, wanted, writable, state, err);
}

/* Is there another file than the image by the name that the journal gives its image? Then this one is a copy:
 * what was done, or half done, to the other has nothing to say of it, nor the other way round. */
static bool is_of_another(struct vd_journal *journal, const char *image)
{
    vd_auto_mem char *named = vd_journal_get(journal, "image");
    struct stat ours, theirs;

    return named && stat(named, &theirs) == 0 && stat(image, &ours) == 0 &&
           (ours.st_dev != theirs.st_dev || ours.st_ino != theirs.st_ino);
}

int vd_undofile_refuse_copy(struct vd_journal *journal, const char *image, struct vd_err *err)
{
    vd_auto_mem char *named = vd_journal_get(journal, "image");

    if (!is_of_another(journal, image))
        return 0;
    return vd_fail(err, VD_ERR_REFUSED, 0, "%s: the undo file %s belongs to %s, of which this is a copy",
                   image, vd_journal_path(journal), named);
}

/* The journal that the stub names. An error where it cannot be had: then nothing is known of the image's
 * repair. */
static struct vd_journal *find_by_stub(const char *image, unsigned wanted, bool writable,
                                       enum vd_journal_state *state, struct vd_err *err)
{
    bool only_keeps;
    vd_auto_mem char *elsewhere = read_stub(image, &only_keeps);
    vd_auto(vd_journal) journal = NULL;

    if (!elsewhere)
        return NULL;
    if (!is_there(elsewhere)) {
        /* The repair was whole when the stub was left: who asks for unfinished ones need not know more. */
        if (only_keeps && !(wanted & (1u << VD_JOURNAL_COMMITTED)))
            return NULL;
        vd_fail(
            err, VD_ERR_REFUSED, 0,
            "%s: a repair's undo file %s is not there; bring it back, or delete %s.vdcheck-stub and with it "
            "what can be taken back",
            image, elsewhere, image);
        return NULL;
    }
    journal = open_if(elsewhere, wanted, writable, state, err);
    if (journal && vd_undofile_refuse_copy(journal, image, err) < 0)
        return NULL;
    return vd_take(&journal);
}

/* Beside the image, the newest first. */
static struct vd_journal *find_beside(const char *image, unsigned wanted, bool writable,
                                      enum vd_journal_state *state, struct vd_err *err)
{
    for (unsigned i = count_files(image); i > 0; i--) {
        vd_auto_mem char *name = name_of(image, i - 1);
        struct vd_journal *found;

        if (!name) {
            vd_fail_memory(err);
            return NULL;
        }
        if (!is_there(name))
            continue;
        found = open_if(name, wanted, writable, state, err);
        if (found || err->kind)
            return found;
    }
    return NULL;
}

struct vd_journal *vd_undofile_find(const char *path, const char *undo_file, unsigned wanted, bool writable,
                                    enum vd_journal_state *state, struct vd_err *err)
{
    vd_auto_mem char *image = vd_undofile_image(path);
    struct vd_journal *found;

    *err = (struct vd_err)VD_ERR_INIT;
    if (!image) {
        vd_fail_memory(err);
        return NULL;
    }
    found = open_named(image, undo_file, wanted, writable, state, err);
    if (!found && !err->kind)
        found = find_by_stub(image, wanted, writable, state, err);
    return found || err->kind ? found : find_beside(image, wanted, writable, state, err);
}

/* Adds what the journal at name kept, where there is one that stands. */
static int add_kept(const char *name, struct vd_runs *clusters, struct vd_err *err)
{
    enum vd_journal_state state;
    struct vd_err why = VD_ERR_INIT;
    uint64_t cluster_size;
    vd_auto(vd_journal) journal =
        name && is_there(name)
            ? open_if(name, (1u << VD_JOURNAL_COMMITTED) | (1u << VD_JOURNAL_PREPARED), false, &state, &why)
            : NULL;

    if (why.kind) {
        *err = why;
        return -1;
    }
    return journal ? vd_journal_kept_leaks(journal, clusters, &cluster_size, err) : 0;
}

int vd_undofile_kept_leaks(const char *path, struct vd_runs *clusters, struct vd_err *err)
{
    vd_auto_mem char *image = vd_undofile_image(path);
    bool only_keeps;
    vd_auto_mem char *elsewhere = read_stub(path, &only_keeps);

    if (!image)
        return vd_fail_memory(err);
    if (elsewhere && !is_there(elsewhere))
        return vd_fail(
            err, VD_ERR_REFUSED, 0,
            "%s: the undo file %s, which lists the leaks that its repair kept, is not there; bring it "
            "back, or delete %s.vdcheck-stub and the list with it",
            image, elsewhere, image);
    if (elsewhere && add_kept(elsewhere, clusters, err) < 0)
        return -1;
    for (unsigned i = count_files(image); i > 0; i--) {
        vd_auto_mem char *name = name_of(image, i - 1);

        if (add_kept(name, clusters, err) < 0)
            return -1;
    }
    vd_runs_settle(clusters);
    return 0;
}

static void print_path(const char *path, FILE *out)
{
    if (path)
        fwrite(path, 1, strlen(path) + 1, out);
}

static void print_member(const char *path, const char *image, FILE *out)
{
    struct vd_err ignored = VD_ERR_INIT;
    vd_auto(vd_journal) member = vd_journal_open(path, false, &ignored);
    vd_auto_mem char *theirs = member ? vd_undofile_member_image(member, image) : NULL;

    print_path(path, out);
    print_path(theirs, out);
}

static void print_members(struct vd_journal *journal, const char *image, FILE *out)
{
    for (unsigned i = 0; i < MOST_FILES; i++) {
        char key[32];
        vd_auto_mem char *path = NULL;

        snprintf(key, sizeof(key), "member%u", i);
        path = vd_undofile_partner(journal, key);
        if (!path)
            return;
        print_member(path, image, out);
    }
}

/* Also a repair that is long finished has its state in the main journal. */
static void print_partners(const char *name, const char *image, FILE *out)
{
    struct vd_err ignored = VD_ERR_INIT;
    enum vd_journal_state state;
    vd_auto(vd_journal) journal = is_there(name) ? vd_journal_open(name, false, &ignored) : NULL;
    vd_auto_mem char *main_path = journal ? vd_undofile_partner(journal, "main") : NULL;

    print_path(main_path, out);
    if (journal && vd_undofile_state(journal, &state, &ignored) == 0 && (VD_UNFINISHED & (1u << state)))
        print_members(journal, image, out);
}

void vd_undofile_print_others(const char *path, FILE *out)
{
    vd_auto_mem char *image = vd_undofile_image(path);
    vd_auto_mem char *elsewhere = vd_undofile_elsewhere(path);

    print_path(elsewhere, out);
    if (elsewhere)
        print_partners(elsewhere, path, out);
    for (unsigned i = image ? count_files(image) : 0; i > 0; i--) {
        vd_auto_mem char *name = name_of(image, i - 1);

        if (name)
            print_partners(name, path, out);
    }
}

/* Only the newest can be one that a signal or a crash cut off before it was prepared. */
static void sweep(const char *begin, const char *image)
{
    unsigned n = begin ? count_files(begin) : 0;
    vd_auto_mem char *name = n ? name_of(begin, n - 1) : NULL;
    enum vd_journal_state state;
    struct vd_err ignored = VD_ERR_INIT;
    vd_auto(vd_journal) journal =
        name ? open_if(name, 1u << VD_JOURNAL_EMPTY, false, &state, &ignored) : NULL;

    if (!journal)
        return;
    /* First what names it: a stub whose journal is away stands for a repair of which nothing is known. */
    vd_undofile_remove_stub(image, name);
    (void)unlink(name);
}

void vd_undofile_sweep(const char *path)
{
    vd_auto_mem char *image = vd_undofile_image(path);

    sweep(image, path);
}

void vd_undofile_sweep_in(const char *folder, const char *image)
{
    vd_auto_mem char *begin = begin_in(folder, image);

    sweep(begin, image);
}
