/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates that count no more, though the CA once gave them. */
#include "coordinator/core/inner.h"

static size_t revoked_index(const struct state *state, const char *what, bool *ret_found)
{
    return name_index(state->revoked.items ? state->revoked.items[0].what : NULL, state->revoked.count,
                      sizeof(struct revocation), what, ret_found);
}

const struct revocation *state_revoked(const struct state *state, const char *what)
{
    bool found;
    size_t at = revoked_index(state, what, &found);
    return found ? &state->revoked.items[at] : NULL;
}

enum tide_status apply_CERT_REVOKE(struct change *change)
{
    struct state *state = change->state;
    const char *what = change->command->text;
    enum tide_status status = revocation_check(what, change->err);
    bool found;
    size_t at = revoked_index(state, what, &found);
    if (status != TIDE_OK)
        return status;
    if (found)
        return err_set(change->err, TIDE_E_EXISTS, "%s is revoked already", what);
    if (state->revoked.count >= REVOCATIONS_MAX)
        return err_set(change->err, TIDE_E_LIMIT,
                       "%d are revoked, which is the most: tidemark cluster revoke --undo those whose certificates have "
                       "expired; where there are so many, a new cluster with a new CA is the better way",
                       REVOCATIONS_MAX);
    struct revocation *last = codec_list_add(&revocation_codec, &state->revoked), *to = &state->revoked.items[at];
    memmove(to + 1, to, (size_t)((char *)last - (char *)to));
    *to = (struct revocation){.since_ms = change->command->at_ms};
    TEXT(to->what, "%s", what);
    TEXT(change->outcome->text, "%s is revoked: whoever shows that certificate is refused", what);
    return TIDE_OK;
}

enum tide_status apply_CERT_ALLOW(struct change *change)
{
    const char *what = change->command->text;
    bool found;
    size_t at = revoked_index(change->state, what, &found);
    if (!found)
        return err_set(change->err, TIDE_E_NOT_FOUND, "%.90s is not revoked; tidemark cluster revoked shows what is", what);
    TEXT(change->outcome->text, "%s counts again", what);
    codec_list_remove(&revocation_codec, &change->state->revoked, at);
    return TIDE_OK;
}
