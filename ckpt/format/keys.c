/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/format/keys.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/digest.h"

void key_pack(const struct cut_name *name, uint32_t rank, uint64_t seq, const char *content, object_key ret_key)
{
    object_key tail;
    int n = snprintf(tail, sizeof tail, "%s.%s/%" PRIu64 "-%" PRIu64 "/%" PRIu32 "-%" PRIu64 "%s%s.pk", name->job, name->uid,
                     name->cut, name->generation, rank, seq, content[0] ? "-" : "", content);
    unsigned place = (unsigned)(digest_of(tail, (size_t)n).low % KEY_PLACES);
    snprintf(ret_key, sizeof(object_key), "c/%02x/%s", place, tail);
}

/* Steps over "<job>.<uid>/"; NULL: it is not there. */
static const char *after_job(const char *at, const char *job, const char *uid)
{
    object_key begin;
    size_t n = (size_t)snprintf(begin, sizeof begin, "%s.%s/", job, uid);
    return strncmp(at, begin, n) == 0 ? at + n : NULL;
}

int key_pack_parse(const char *key, const char *job, const char *uid, struct pack_name *ret_name)
{
    struct pack_name n = {0};
    object_key again;
    const char *tail = strlen(key) > PACK_PLACE_CHARS ? after_job(key + PACK_PLACE_CHARS, job, uid) : NULL;
    if (tail == NULL || sscanf(tail, "%" SCNu64 "-%" SCNu64 "/%" SCNu32 "-%" SCNu64 "-%16[0-9a-f]", &n.cut, &n.generation,
                               &n.rank, &n.seq, n.content) < 4)
        return -1;
    /* What was read makes the same key: no blanks, signs or leading zeros, nothing behind, and in its place. */
    struct cut_name name = {.job = job, .uid = uid, .cut = n.cut, .generation = n.generation};
    key_pack(&name, n.rank, n.seq, n.content, again);
    if (strcmp(again, key) != 0 || (n.content[0] && strlen(n.content) != PACK_CONTENT_CHARS))
        return -1;
    *ret_name = n;
    return 0;
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

/* ---- what needs what ---- */

void key_prefix_needs(const char *job, const char *uid, uint64_t needed, object_key ret_prefix)
{
    int n = snprintf(ret_prefix, sizeof(object_key), "n/%s.%s/", job, uid);
    if (needed)
        snprintf(ret_prefix + n, sizeof(object_key) - (size_t)n, "%" PRIu64 "/", needed);
}

void key_need(const struct cut_name *name, uint64_t needed, object_key ret_key)
{
    snprintf(ret_key, sizeof(object_key), "n/%s.%s/%" PRIu64 "/%" PRIu64 "-%" PRIu64, name->job, name->uid, needed,
             name->cut, name->generation);
}

int key_need_parse(const char *key, const char *job, const char *uid, uint64_t *ret_needed, uint64_t *ret_cut)
{
    uint64_t needed = 0, cut = 0, generation = 0;
    object_key again;
    const char *tail = strncmp(key, "n/", 2) == 0 ? after_job(key + 2, job, uid) : NULL;
    if (tail == NULL || sscanf(tail, "%" SCNu64 "/%" SCNu64 "-%" SCNu64, &needed, &cut, &generation) != 3)
        return -1;
    struct cut_name name = {.job = job, .uid = uid, .cut = cut, .generation = generation};
    key_need(&name, needed, again);
    if (strcmp(again, key) != 0)
        return -1;
    *ret_needed = needed;
    *ret_cut = cut;
    return 0;
}

/* "<kind>/<job>.<uid>/<cut>": a note about one cut. */
static void key_note(char kind, const char *job, const char *uid, uint64_t cut, object_key ret_key)
{
    int n = snprintf(ret_key, sizeof(object_key), "%c/%s.%s/", kind, job, uid);
    if (cut)
        snprintf(ret_key + n, sizeof(object_key) - (size_t)n, "%" PRIu64, cut);
}

static int key_note_parse(char kind, const char *key, const char *job, const char *uid, uint64_t *ret_cut)
{
    uint64_t cut = 0;
    object_key again;
    const char *tail = key[0] == kind && key[1] == '/' ? after_job(key + 2, job, uid) : NULL;
    if (tail == NULL || sscanf(tail, "%" SCNu64, &cut) != 1)
        return -1;
    key_note(kind, job, uid, cut, again);
    if (cut == 0 || strcmp(again, key) != 0)
        return -1;
    *ret_cut = cut;
    return 0;
}

void key_garbage(const char *job, const char *uid, uint64_t cut, object_key ret_key)
{
    key_note('g', job, uid, cut, ret_key);
}

int key_garbage_parse(const char *key, const char *job, const char *uid, uint64_t *ret_cut)
{
    return key_note_parse('g', key, job, uid, ret_cut);
}

void key_damaged(const char *job, const char *uid, uint64_t cut, object_key ret_key)
{
    key_note('d', job, uid, cut, ret_key);
}

int key_damaged_parse(const char *key, const char *job, const char *uid, uint64_t *ret_cut)
{
    return key_note_parse('d', key, job, uid, ret_cut);
}

/* ---- any of them ---- */

static int key_manifest_parse(const char *key, const char *job, const char *uid, struct object_name *ret_name)
{
    object_key again;
    struct object_name n = {0};
    uint32_t rank = 0;
    const char *tail = after_job(key + 2, job, uid);
    if (tail == NULL || sscanf(tail, "%" SCNu64 "-%" SCNu64 "/", &n.cut, &n.generation) != 2)
        return -1;
    struct cut_name name = {.job = job, .uid = uid, .cut = n.cut, .generation = n.generation};
    n.kind = key_is_commit(key) ? OBJECT_COMMIT : OBJECT_RANK;
    if (n.kind == OBJECT_COMMIT)
        key_commit(&name, again);
    else if (sscanf(strrchr(key, '/') + 1, "%" SCNu32, &rank) == 1)
        key_rank(&name, rank, again);
    else
        return -1;
    *ret_name = n;
    return strcmp(key, again);
}

int key_object_parse(const char *key, const char *job, const char *uid, struct object_name *ret_name)
{
    struct pack_name pack;
    struct object_name n = {0};
    switch (key[0] != '\0' && strchr(key, '/') != NULL ? key[0] : '\0') {
    case 'c':
        if (key_pack_parse(key, job, uid, &pack) != 0)
            return -1;
        *ret_name = (struct object_name){.kind = OBJECT_PACK, .cut = pack.cut, .generation = pack.generation};
        return 0;
    case 'm':
        return strncmp(key, "m/", 2) == 0 ? key_manifest_parse(key, job, uid, ret_name) : -1;
    case 'n':
        n.kind = OBJECT_NEED;
        if (key_need_parse(key, job, uid, &n.needed, &n.cut) != 0)
            return -1;
        break;
    case 'g':
        n.kind = OBJECT_GARBAGE;
        if (key_garbage_parse(key, job, uid, &n.cut) != 0)
            return -1;
        break;
    case 'd':
        n.kind = OBJECT_DAMAGED;
        if (key_damaged_parse(key, job, uid, &n.cut) != 0)
            return -1;
        break;
    default:
        return -1;
    }
    *ret_name = n;
    return 0;
}

int key_manifest_split(const char *key, char ret_job[TIDE_NAME_MAX + 1], char ret_uid[TIDE_UID_CHARS + 1], struct object_name *ret_name)
{
    char job[TIDE_NAME_MAX + 1], uid[TIDE_UID_CHARS + 1];
    const char *end = strncmp(key, "m/", 2) == 0 ? strchr(key + 2, '/') : NULL;
    size_t n = end != NULL ? (size_t)(end - (key + 2)) : 0;
    if (n < TIDE_UID_CHARS + 2 || n - TIDE_UID_CHARS - 1 > TIDE_NAME_MAX || end[-1 - TIDE_UID_CHARS] != '.')
        return -1;
    n -= TIDE_UID_CHARS + 1;
    memcpy(job, key + 2, n);
    job[n] = '\0';
    memcpy(uid, end - TIDE_UID_CHARS, TIDE_UID_CHARS);
    uid[TIDE_UID_CHARS] = '\0';
    if (strspn(uid, "0123456789abcdef") != TIDE_UID_CHARS || key_object_parse(key, job, uid, ret_name) != 0)
        return -1;
    memcpy(ret_job, job, sizeof job);
    memcpy(ret_uid, uid, sizeof uid);
    return 0;
}

/* ---- prefixes ---- */

void key_prefix_manifests(const char *job, const char *uid, uint64_t cut, object_key ret_prefix)
{
    snprintf(ret_prefix, sizeof(object_key), "m/%s.%s/%" PRIu64 "-", job, uid, cut);
}

void key_prefix_packs(const char *job, const char *uid, uint64_t cut, unsigned place, object_key ret_prefix)
{
    int n = snprintf(ret_prefix, sizeof(object_key), "c/%02x/%s.%s/", place, job, uid);
    if (cut > 0)
        snprintf(ret_prefix + n, sizeof(object_key) - (size_t)n, "%" PRIu64 "-", cut);
}

int key_is_commit(const char *key)
{
    const char *slash = strrchr(key, '/');
    return slash && strcmp(slash + 1, "COMMIT") == 0;
}
