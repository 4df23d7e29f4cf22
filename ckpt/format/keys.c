/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/format/keys.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/digest.h"

void key_pack(const struct cut_name *name, uint32_t rank, uint64_t seq, object_key ret_key)
{
    object_key tail;
    int n = snprintf(tail, sizeof tail, "%s.%s/%" PRIu64 "-%" PRIu64 "/%" PRIu32 "-%" PRIu64 ".pk", name->job, name->uid,
                     name->cut, name->generation, rank, seq);
    unsigned place = (unsigned)(digest_of(tail, (size_t)n).low % KEY_PLACES);
    snprintf(ret_key, sizeof(object_key), "c/%02x/%s", place, tail);
}

void key_rank(const struct cut_name *name, uint32_t rank, object_key ret_key)
{
    snprintf(ret_key, sizeof(object_key), "m/%s.%s/%" PRIu64 "-%" PRIu64 "/%" PRIu32 ".json", name->job, name->uid,
             name->cut, name->generation, rank);
}

void key_commit(const struct cut_name *name, object_key ret_key)
{
    snprintf(ret_key, sizeof(object_key), "m/%s.%s/%" PRIu64 "-%" PRIu64 "/COMMIT", name->job, name->uid, name->cut,
             name->generation);
}

void key_prefix_manifests(const char *job, const char *uid, uint64_t cut, object_key ret_prefix)
{
    snprintf(ret_prefix, sizeof(object_key), "m/%s.%s/%" PRIu64 "-", job, uid, cut);
}

void key_prefix_packs(const char *job, const char *uid, uint64_t cut, unsigned place, object_key ret_prefix)
{
    snprintf(ret_prefix, sizeof(object_key), "c/%02x/%s.%s/%" PRIu64 "-", place, job, uid, cut);
}

int key_is_commit(const char *key)
{
    const char *slash = strrchr(key, '/');
    return slash && strcmp(slash + 1, "COMMIT") == 0;
}
