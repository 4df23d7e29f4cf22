/* SPDX-License-Identifier: Apache-2.0 */
/* A new cluster from a backup of another. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "coordinator/core/core.h"
#include "coordinator/disk/datadir.h"
#include "coordinator/disk/snapshot.h"
#include "coordinator/disk/wal.h"
#include "coordinator/raft/raft.h"
#include "coordinator/server/offline.h"

#define ALONE_ID 1u
/* The state is said to be of a later term than any new cluster will soon reach. A founding member that was not restored has
 * a history of its own, with the same small indexes and terms: where the two meet they must be seen to differ. */
#define RESTORE_TERMS (UINT64_C(1) << 16)

/* ---- the state ---- */

/* Those the new group begins with; one of that name in the backup gives way. */
static void take_token(struct state *state, const struct token *token)
{
    struct token *known = state_token(state, token->name);
    if (known != NULL) {
        *known = *token;
        return;
    }
    struct token *last = codec_list_add(&token_codec, &state->tokens);
    size_t at = state->tokens.count - 1;
    for (; at > 0 && strcmp(state->tokens.items[at - 1].name, token->name) > 0; at--)
        *last-- = state->tokens.items[at - 1];
    state->tokens.items[at] = *token;
}

/* The same bytes at every member. */
static enum tide_status new_state(const struct snapshot *backup, const char *cluster, const struct identity *identity,
                                  char **ret_text, struct err *err)
{
    struct state state;
    enum tide_status status = state_parse(backup->data, backup->bytes, &state, err);
    if (status != TIDE_OK)
        return err_set(err, TIDE_E_VERSION, "the backup is whole, but no state of this version: %.300s", err->text);
    text_copy(state.cluster, sizeof state.cluster, cluster);
    for (size_t i = 0; identity != NULL && i < identity->tokens.count; i++)
        take_token(&state, &identity->tokens.items[i]);
    status = state_check(&state, err);
    if (status == TIDE_OK)
        *ret_text = codec_print(&state_codec, &state, CODEC_COMPACT);
    state_release(&state);
    return status;
}

/* ---- the group ---- */

static enum tide_status new_group(const struct identity *identity, struct raft_config *ret_config, struct err *err)
{
    struct raft_member alone = {.id = ALONE_ID, .voter = true, .peer = "nowhere"};
    enum tide_status status = TIDE_OK;
    *ret_config = (struct raft_config){0};
    if (identity == NULL)
        return raft_config_add(ret_config, &alone, err);
    if (identity->joining)
        return err_set(err, TIDE_E_INVALID, "this identity joins a group that exists; restore the members that found one");
    for (size_t i = 0; i < identity->members.count && status == TIDE_OK; i++) {
        struct raft_member member = {.id = identity->members.items[i].id, .voter = true};
        text_copy(member.peer, sizeof member.peer, identity->members.items[i].peer);
        text_copy(member.api, sizeof member.api, identity->members.items[i].api);
        status = raft_config_add(ret_config, &member, err);
    }
    return status;
}

/* ---- the directory ---- */

static enum tide_status fill(struct datadir *dir, struct snapshot *snapshot, uint64_t *ret_digest, struct err *err)
{
    struct wal *wal = NULL;
    struct ballot ballot = {.term = snapshot->term};
    enum tide_status status = snapshot_save(dir->path, dir->cluster, snapshot, ret_digest, err);
    if (status == TIDE_OK)
        status = wal_open(dir->path, dir->cluster, NULL, true, snapshot->index + 1, snapshot->term, &wal, err);
    if (status == TIDE_OK)
        status = ballot_save(dir->path, ballot, err);
    if (status == TIDE_OK)
        status = datadir_commit(dir, err);
    wal_close(wal);
    return status;
}

static enum tide_status make(const char *data, struct snapshot *snapshot, struct restored_view *view, struct err *err)
{
    struct datadir dir;
    enum tide_status status = datadir_open(data, view->cluster, view->member, true, &dir, err);
    if (status != TIDE_OK)
        return status;
    if (dir.fresh)
        status = fill(&dir, snapshot, &view->digest, err);
    else
        status = err_set(err, TIDE_E_EXISTS, "%s is a data directory already; name one that is empty or not there", data);
    datadir_close(&dir);
    return status;
}

static enum tide_status restore(const char *data, const struct snapshot *backup, const struct identity *identity,
                                struct restored_view *view, struct err *err)
{
    struct raft_config config;
    char *text = NULL;
    enum tide_status status = new_group(identity, &config, err);
    if (status == TIDE_OK)
        status = new_state(backup, view->cluster, identity, &text, err);
    if (status != TIDE_OK)
        return status;
    struct raft_blob *blob = raft_config_encode(&config);
    struct snapshot snapshot = {.index = backup->index,
                                .term = backup->term + RESTORE_TERMS,
                                .config = blob->data,
                                .config_bytes = blob->bytes,
                                .data = text,
                                .bytes = strlen(text)};
    status = make(data, &snapshot, view, err);
    raft_blob_unref(blob);
    mem_free(text);
    return status;
}

enum tide_status restore_backup(const char *data, const char *from, const struct identity *identity,
                                struct restored_view *ret_view, struct err *err)
{
    struct snapshot backup = {0};
    struct rng rng = {.state = rng_entropy()};
    struct restored_view view = {.member = identity ? identity->member : ALONE_ID};
    enum tide_status status = snapshot_load_file(from, &backup, view.from_cluster, err);
    if (status == TIDE_E_CORRUPT) /* the loader's next step is that of a data directory */
        return err_set(err, status, "%s is corrupt: it is no backup, or was damaged after it was made; take another", from);
    if (status != TIDE_OK)
        return status;
    view.index = backup.index;
    if (identity != NULL)
        text_copy(view.cluster, sizeof view.cluster, identity->cluster);
    else
        rng_hex(&rng, view.cluster, TIDE_UID_CHARS);
    if (strcmp(view.cluster, view.from_cluster) == 0)
        status = err_set(err, TIDE_E_INVALID,
                         "the backup is of this very cluster, %s: two of one name would take each other's nodes. Make a new "
                         "one with tidemark cluster init; if a majority of the old one is lost, see tidemarkd recover",
                         view.cluster);
    else
        status = restore(data, &backup, identity, &view, err);
    snapshot_release(&backup);
    if (status == TIDE_OK)
        *ret_view = view;
    return status;
}
