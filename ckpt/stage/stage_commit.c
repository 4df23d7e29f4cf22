/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "ckpt/base/mem.h"
#include "ckpt/stage/shard.h"
#include "ckpt/stage/stage.h"

/* A commit that names what is not there would be a lie that lasts. Some at a time: one after the other, the rank manifests of a large
 * job would take longer than a try may. */
static enum tide_status all_there(struct store *store, const struct manifest *m, struct err *err)
{
    struct strlist keys = {0};
    for (size_t i = 0; i < m->shards.count; i++)
        strlist_add(&keys, m->shards.items[i].key);
    enum tide_status status = store_find_each(store, &keys, err);
    strlist_release(&keys);
    return status;
}

static enum tide_status gather(struct store *store, const struct cut_order *order, struct manifest *m, struct err *err)
{
    for (size_t i = 0; i < order->shards.count; i++) {
        const struct shard_ref *from = &order->shards.items[i];
        struct shard_entry *to = codec_list_add(&shard_entry_codec, &m->shards);
        to->rank = from->rank;
        text_copy(to->key, sizeof to->key, from->key);
        text_copy(to->digest, sizeof to->digest, from->digest);
        to->raw_bytes = from->raw_bytes;
        to->stored_bytes = from->stored_bytes;
    }
    if (manifest_check(m, err) != TIDE_OK)
        return err_set(err, TIDE_E_INVALID, "the order to commit cut %" PRIu64 " does not name one shard per rank",
                       order->cut);
    return all_there(store, m, err);
}

enum tide_status stage_commit(struct store *store, const char *job, const char *job_uid, const struct cut_order *order,
                              char ret_key[TIDE_PATH_MAX + 1], char ret_digest[DIGEST_HEX_CHARS + 1], struct err *err)
{
    struct manifest m = {.version = FORMAT_VERSION_WHOLE,
                         .cut = order->cut,
                         .generation = order->generation,
                         .step = order->step,
                         .world_size = (uint32_t)order->shards.count};
    object_key key;
    uint64_t bytes;
    text_copy(m.job, sizeof m.job, job);
    text_copy(m.uid, sizeof m.uid, job_uid);
    struct cut_name name = manifest_name(&m);
    key_commit(&name, key);
    enum tide_status status = gather(store, order, &m, err);
    if (status == TIDE_OK)
        status = object_put(store, &manifest_codec, &m, key, ret_digest, &bytes, err);
    if (status == TIDE_OK)
        text_copy(ret_key, TIDE_PATH_MAX + 1, key);
    codec_release(&manifest_codec, &m);
    return status == TIDE_OK ? TIDE_OK : err_wrap(err, "cannot commit cut %" PRIu64 " of job %s", order->cut, job);
}
