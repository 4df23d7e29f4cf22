/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_SURVEY_H
#define CKPT_STAGE_SURVEY_H

/* What a store holds of a job, by listing it, and what of that nobody needs. */

#include "ckpt/format/keys.h"
#include "ckpt/format/orphan.h"
#include "ckpt/store/store.h"
#include "ckpt/wire/codec.h"

struct survey_object {
    char *key;
    struct object_name name;
};

struct survey {
    char job[TIDE_NAME_MAX + 1], uid[TIDE_UID_CHARS + 1];
    LIST_OF(struct survey_object) objects; /* by cut; what is no object of the job is passed over */
};

MUST_USE enum tide_status survey_take(struct store *store, const char *job, const char *uid, struct survey *ret_survey,
                                      struct err *err);
void survey_release(struct survey *survey);
/* Index of the first object of the next cut; the count when there is none. */
size_t survey_next(const struct survey *survey, size_t from);
int survey_committed(const struct survey *survey, uint64_t cut);
/* Needs it a cut for which `goes` is zero? goes(context, cut) */
int survey_needed(const struct survey *survey, uint64_t cut, int (*goes)(const void *context, uint64_t cut), const void *context);

/* Packs of a committed cut that no rank manifest of it names, so that nothing ever refers to them: what attempts to store it
 * left that were given up. Of the generation of its COMMIT only: ids may have been given again after a state was restored, and
 * of another generation those manifests say nothing. A cut with a manifest that cannot be understood, or is not there, has none:
 * that is told by whoever reads it. Told one by one; stops at the first status that is not OK, and returns it. Errors also: those
 * of the store. */
MUST_USE enum tide_status survey_strays(const struct survey *survey, struct store *store, uint64_t cut,
                                        enum tide_status (*tell)(void *context, const char *key, struct err *err), void *context,
                                        struct err *err);

/* Delete what the rule says of what a job left in its store: whole cuts as stage_purge does, and strays of live ones. ret_strange:
 * how many committed cuts were left that the rule does not know. Errors: those of the store; done again it goes on. */
MUST_USE enum tide_status stage_sweep(struct store *store, const char *job, const char *uid, const struct orphan_rule *rule,
                                      uint64_t *ret_strange, struct err *err);

#endif
