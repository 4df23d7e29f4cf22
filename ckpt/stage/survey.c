/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/survey.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/stage/shard.h"
#include "ckpt/stage/stage.h"

static int by_cut(const void *a, const void *b)
{
    const struct survey_object *x = a, *y = b;
    if (x->name.cut != y->name.cut)
        return x->name.cut < y->name.cut ? -1 : 1;
    return strcmp(x->key, y->key);
}

static void take(struct survey *survey, struct strlist *keys)
{
    for (size_t i = 0; i < keys->count; i++) {
        struct survey_object object;
        if (key_object_parse(keys->items[i], survey->job, survey->uid, &object.name) != 0)
            continue;
        object.key = mem_strdup(keys->items[i]);
        survey->objects.items = mem_grow(survey->objects.items, survey->objects.count + 1, sizeof object);
        survey->objects.items[survey->objects.count++] = object;
    }
    strlist_release(keys);
}

/* What describes cuts, one kind before the other; then packs. */
static enum tide_status take_all(struct store *store, struct survey *survey, struct err *err)
{
    enum tide_status status = TIDE_OK;
    struct strlist keys = {0};
    object_key prefix;
    for (const char *kind = "mngd"; *kind && status == TIDE_OK; kind++) {
        snprintf(prefix, sizeof prefix, "%c/%s.%s/", *kind, survey->job, survey->uid);
        status = store_list(store, prefix, &keys, err);
        take(survey, &keys);
    }
    for (unsigned place = 0; status == TIDE_OK && place < KEY_PLACES; place += PLACES_LISTED) {
        status = packs_list(store, survey->job, survey->uid, 0, place, &keys, err);
        take(survey, &keys);
    }
    return status;
}

enum tide_status survey_take(struct store *store, const char *job, const char *uid, struct survey *ret_survey, struct err *err)
{
    struct survey survey = {0};
    text_copy(survey.job, sizeof survey.job, job);
    text_copy(survey.uid, sizeof survey.uid, uid);
    enum tide_status status = take_all(store, &survey, err);
    if (status != TIDE_OK) {
        survey_release(&survey);
        return status;
    }
    if (survey.objects.count > 0)
        qsort(survey.objects.items, survey.objects.count, sizeof survey.objects.items[0], by_cut);
    *ret_survey = survey;
    return TIDE_OK;
}

void survey_release(struct survey *survey)
{
    for (size_t i = 0; i < survey->objects.count; i++)
        mem_free(survey->objects.items[i].key);
    mem_free(survey->objects.items);
    *survey = (struct survey){0};
}

size_t survey_next(const struct survey *survey, size_t from)
{
    size_t i = from;
    while (i < survey->objects.count && survey->objects.items[i].name.cut == survey->objects.items[from].name.cut)
        i++;
    return i;
}

static size_t first_of(const struct survey *survey, uint64_t cut)
{
    size_t low = 0, high = survey->objects.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (survey->objects.items[middle].name.cut < cut)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The first COMMIT of the cut, of whatever generation; NULL: it has none. */
static const struct survey_object *commit_of(const struct survey *survey, uint64_t cut)
{
    for (size_t i = first_of(survey, cut); i < survey->objects.count && survey->objects.items[i].name.cut == cut; i++)
        if (survey->objects.items[i].name.kind == OBJECT_COMMIT)
            return &survey->objects.items[i];
    return NULL;
}

int survey_committed(const struct survey *survey, uint64_t cut)
{
    return commit_of(survey, cut) != NULL;
}

int survey_needed(const struct survey *survey, uint64_t cut, int (*goes)(const void *context, uint64_t cut), const void *context)
{
    for (size_t i = 0; i < survey->objects.count; i++) {
        const struct object_name *name = &survey->objects.items[i].name;
        if (name->kind == OBJECT_NEED && name->needed == cut && !goes(context, name->cut))
            return 1;
    }
    return 0;
}

/* ---- strays ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Every pack that the manifests of a cut name, sorted. */
static enum tide_status named_packs(struct store *store, const char *commit_key, struct strlist *ret_named, struct err *err)
{
    struct manifest whole;
    struct strlist named = {0};
    enum tide_status status = manifest_read(store, commit_key, NULL, &whole, err);
    if (status != TIDE_OK)
        return status;
    for (uint32_t r = 0; r < whole.world_size && status == TIDE_OK; r++) {
        struct rank_manifest part;
        status = rank_manifest_read(store, &whole, r, &part, err);
        if (status != TIDE_OK)
            break;
        for (size_t i = 0; i < part.packs.count; i++)
            strlist_add(&named, part.packs.items[i].key);
        codec_release(&rank_manifest_codec, &part);
    }
    codec_release(&manifest_codec, &whole);
    if (status != TIDE_OK) {
        strlist_release(&named);
        return status;
    }
    if (named.count > 0)
        qsort(named.items, named.count, sizeof named.items[0], by_text);
    *ret_named = named;
    return TIDE_OK;
}

enum tide_status survey_strays(const struct survey *survey, struct store *store, uint64_t cut,
                               enum tide_status (*tell)(void *context, const char *key, struct err *err), void *context,
                               struct err *err)
{
    const struct survey_object *objects = survey->objects.items;
    const struct survey_object *commit = commit_of(survey, cut);
    size_t first = first_of(survey, cut);
    struct strlist named;
    if (commit == NULL)
        return TIDE_OK;
    struct err why;
    enum tide_status status = named_packs(store, commit->key, &named, &why);
    /* One whose manifests cannot be read keeps all that it has: it is not this that says so. */
    if (status == TIDE_E_CORRUPT || status == TIDE_E_VERSION || status == TIDE_E_NOT_FOUND)
        return TIDE_OK;
    if (status != TIDE_OK)
        return err_set(err, status, "%s", why.text);
    for (size_t i = first; i < survey->objects.count && objects[i].name.cut == cut && status == TIDE_OK; i++)
        if (objects[i].name.kind == OBJECT_PACK && objects[i].name.generation == commit->name.generation &&
            (named.count == 0 || bsearch(&objects[i].key, named.items, named.count, sizeof named.items[0], by_text) == NULL))
            status = tell(context, objects[i].key, err);
    strlist_release(&named);
    return status;
}

/* ---- sweeping ---- */

static enum tide_status add_stray(void *strays, const char *key, struct err *err)
{
    (void)err;
    strlist_add(strays, key);
    return TIDE_OK;
}

static enum tide_status remove_strays(const struct survey *survey, struct store *store, uint64_t cut, struct err *err)
{
    struct strlist strays = {0};
    enum tide_status status = survey_strays(survey, store, cut, add_stray, &strays, err);
    if (status == TIDE_OK)
        status = store_remove_each(store, &strays, err);
    strlist_release(&strays);
    return status;
}

enum tide_status stage_sweep(struct store *store, const char *job, const char *uid, const struct orphan_rule *rule,
                             uint64_t *ret_strange, struct err *err)
{
    struct survey survey;
    uint64_t strange = 0;
    enum tide_status status = survey_take(store, job, uid, &survey, err);
    if (status != TIDE_OK)
        return err_wrap(err, "cannot list what job %s left", job);
    for (size_t i = 0; i < survey.objects.count && status == TIDE_OK; i = survey_next(&survey, i)) {
        uint64_t cut = survey.objects.items[i].name.cut;
        enum orphan_verdict verdict = orphan_judge(rule, cut, survey_committed(&survey, cut));
        strange += verdict == ORPHAN_STRANGE;
        if (verdict == ORPHAN_DELETE)
            status = stage_purge(store, job, uid, cut, err);
        else if (verdict == ORPHAN_NOT)
            status = remove_strays(&survey, store, cut, err);
    }
    survey_release(&survey);
    if (status == TIDE_OK)
        *ret_strange = strange;
    return status;
}
