/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/client/client.h"

#define ANSWER_MS 1000u /* behind the deadline of the question, until its answer is here */

static enum tide_status take(const struct local_message *answer, uint32_t from, const char *name, void *data, size_t bytes,
                             struct err *err)
{
    struct local_message copy = *answer;
    if (answer->bytes != bytes)
        return err_set(err, TIDE_E_MISMATCH, "rank %u has given %llu bytes as %s, not %zu", from,
                       (unsigned long long)answer->bytes, name, bytes);
    memcpy(data, local_share_of(&copy)->data, bytes);
    return TIDE_OK;
}

enum tide_status tide_share(struct tide *tide, const char *name, uint32_t from, void *data, size_t bytes)
{
    struct local_message message = {.slot = from}, answer;
    if (tide == NULL)
        return TIDE_E_INVALID;
    if (name == NULL || name[0] == '\0' || strlen(name) > TIDE_NAME_MAX || data == NULL || bytes == 0 ||
        bytes > TIDE_SHARE_BYTES_MAX)
        return err_set(&tide->err, TIDE_E_INVALID, "tide_share takes a name of up to %d bytes, and up to %d bytes under it",
                       TIDE_NAME_MAX, TIDE_SHARE_BYTES_MAX);
    if (!tide->in_job)
        return TIDE_OK;
    if (from >= tide->world_size)
        return err_set(&tide->err, TIDE_E_INVALID, "rank %u is to give %s, and there are %u ranks", from, name,
                       tide->world_size);
    struct local_share *said = local_share_of(&message);
    text_copy(said->name, sizeof said->name, name);
    message.type = from == tide->rank ? LOCAL_SHARE_GIVE : LOCAL_SHARE_ASK;
    message.attempt = (uint32_t)tide->options.deadline_ms;
    message.question = ++tide->questions;
    if (message.type == LOCAL_SHARE_GIVE) {
        message.bytes = bytes;
        memcpy(said->data, data, bytes);
    }
    uint64_t deadline_ns = clock_mono_ns() + (tide->options.deadline_ms + ANSWER_MS) * NS_PER_MS;
    enum tide_status status = channel_ask(tide, &message, 1u << LOCAL_SHARED, deadline_ns, &answer, &tide->err);
    if (status != TIDE_OK || message.type == LOCAL_SHARE_GIVE)
        return status;
    return take(&answer, from, name, data, bytes, &tide->err);
}
