/* SPDX-License-Identifier: Apache-2.0 */
/* group_check DIR…: the data directories of the members of one group, none of which runs. As far as all of them have the
 * log, every entry must be the same, and so must be the state that each one's own snapshot and log lead to. Exit status 0:
 * it is so; 1: it is not; 2: a directory cannot be read. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/base/digest.h"
#include "ckpt/base/mem.h"
#include "coordinator/core/core.h"
#include "coordinator/disk/datadir.h"
#include "coordinator/disk/snapshot.h"
#include "coordinator/disk/wal.h"
#include "coordinator/raft/entry.h"

#define MEMBERS_CHECKED_MAX 16
#define EXIT_BAD 2

struct mark {
    uint64_t term;
    unsigned type;
    struct digest digest;
};

struct copy {
    struct datadir dir;
    struct wal *wal;
    struct state state;
    uint64_t snapshot; /* index; 0: none */
    uint64_t first, last;
    uint64_t until;     /* apply entries up to here */
    struct mark *marks; /* of entries first to last */
    char *text;         /* the state */
};

/* ---- one member ---- */

static enum tide_status load_image(struct copy *copy, uint64_t *ret_term, struct err *err)
{
    struct snapshot snapshot = {0};
    enum tide_status status = snapshot_newest(copy->dir.path, copy->dir.cluster, &snapshot, err);
    if (status != TIDE_OK || snapshot.data == NULL)
        return status;
    status = codec_parse(&state_codec, snapshot.data, snapshot.bytes, CODEC_STRICT, &copy->state, err);
    copy->snapshot = snapshot.index;
    *ret_term = snapshot.term;
    snapshot_release(&snapshot);
    return status;
}

static enum tide_status apply_entry(struct copy *copy, const struct wal_entry *entry, struct err *err)
{
    struct command command;
    struct outcome outcome;
    struct err refused = {0}; /* an answer, as it was then */
    enum tide_status status = codec_parse(&command_codec, entry->data, entry->bytes, CODEC_STRICT, &command, err);
    if (status != TIDE_OK)
        return err_wrap(err, "entry %" PRIu64, entry->index);
    apply(&copy->state, &command, entry->index, &outcome, &refused);
    codec_release(&command_codec, &command);
    return state_check(&copy->state, err);
}

static enum tide_status mark_entry(void *arg, const struct wal_entry *entry, struct err *err)
{
    struct copy *copy = arg;
    struct mark *mark = &copy->marks[entry->index - copy->first];
    mark->term = entry->term;
    mark->type = entry->type;
    mark->digest = digest_of(entry->data, entry->bytes);
    if (entry->index <= copy->snapshot || entry->index > copy->until || entry->type != RAFT_COMMAND)
        return TIDE_OK;
    return apply_entry(copy, entry, err);
}

static enum tide_status copy_open(const char *path, struct copy *copy, struct err *err)
{
    uint64_t term = 0;
    copy->dir.lock_fd = -1;
    enum tide_status status = datadir_open(path, NULL, 0, false, &copy->dir, err);
    if (status == TIDE_OK)
        status = load_image(copy, &term, err);
    if (status == TIDE_OK)
        status = wal_open(copy->dir.path, copy->dir.cluster, NULL, false, copy->snapshot + 1, term, &copy->wal, err);
    if (status != TIDE_OK)
        return status;
    copy->first = wal_first(copy->wal);
    copy->last = wal_last(copy->wal);
    return TIDE_OK;
}

static enum tide_status copy_replay(struct copy *copy, uint64_t until, struct err *err)
{
    copy->until = until;
    copy->marks = mem_array(copy->last + 1 - copy->first, sizeof *copy->marks);
    if (copy->last >= copy->first) {
        enum tide_status status = wal_read(copy->wal, copy->first, copy->last, mark_entry, copy, err);
        if (status != TIDE_OK)
            return status;
    }
    copy->text = codec_print(&state_codec, &copy->state, CODEC_STRICT);
    return TIDE_OK;
}

static void copy_close(struct copy *copy)
{
    mem_free(copy->text);
    mem_free(copy->marks);
    wal_close(copy->wal);
    state_release(&copy->state);
    datadir_close(&copy->dir);
}

/* ---- all of them ---- */

static bool logs_agree(const struct copy *a, const struct copy *b, uint64_t until)
{
    uint64_t index = a->first > b->first ? a->first : b->first;
    for (; index <= until; index++) {
        const struct mark *x = &a->marks[index - a->first], *y = &b->marks[index - b->first];
        if (x->term == y->term && x->type == y->type && digest_equal(x->digest, y->digest))
            continue;
        printf("entry %" PRIu64 " is not the same in %s (term %" PRIu64 ") and %s (term %" PRIu64 ")\n", index, a->dir.path,
               x->term, b->dir.path, y->term);
        return false;
    }
    return true;
}

static bool states_agree(const struct copy *a, const struct copy *b)
{
    size_t at = 0;
    if (strcmp(a->text, b->text) == 0)
        return true;
    while (a->text[at] == b->text[at])
        at++;
    at = at > 60 ? at - 60 : 0;
    printf("the state of %s is not that of %s:\n  %.160s\n  %.160s\n", a->dir.path, b->dir.path, a->text + at, b->text + at);
    return false;
}

static int compare(struct copy *copies, size_t count)
{
    uint64_t until = UINT64_MAX;
    bool same = true;
    struct err err = {0};
    for (size_t i = 0; i < count; i++)
        until = copies[i].last < until ? copies[i].last : until;
    for (size_t i = 0; i < count; i++) {
        if (copies[i].snapshot > until) {
            printf("%s has a snapshot of entry %" PRIu64 ", but another member's log ends with %" PRIu64 "\n",
                   copies[i].dir.path, copies[i].snapshot, until);
            return EXIT_FAILURE;
        }
        if (copy_replay(&copies[i], until, &err) != TIDE_OK) {
            printf("%s: %s\n", copies[i].dir.path, err.text);
            return EXIT_FAILURE;
        }
    }
    for (size_t i = 1; i < count; i++)
        same &= logs_agree(&copies[0], &copies[i], until) && states_agree(&copies[0], &copies[i]);
    if (same)
        printf("%zu members hold the same up to entry %" PRIu64 ": %zu jobs, %zu nodes, %zu requests\n", count, until,
               copies[0].state.jobs.count, copies[0].state.nodes.count, copies[0].state.sessions.count);
    return same ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    struct copy copies[MEMBERS_CHECKED_MAX] = {0};
    struct err err = {0};
    size_t count = 0;
    int exit_status = EXIT_SUCCESS;
    if (argc < 2 || argc > MEMBERS_CHECKED_MAX + 1) {
        fprintf(stderr, "usage: group_check DIR…\n");
        return EXIT_BAD;
    }
    for (int i = 1; i < argc && exit_status == EXIT_SUCCESS; i++)
        if (copy_open(argv[i], &copies[count++], &err) != TIDE_OK) {
            fprintf(stderr, "%s: %s\n", argv[i], err.text);
            exit_status = EXIT_BAD;
        }
    if (exit_status == EXIT_SUCCESS)
        exit_status = compare(copies, count);
    for (size_t i = 0; i < count; i++)
        copy_close(&copies[i]);
    return exit_status;
}
