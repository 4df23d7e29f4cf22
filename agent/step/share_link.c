/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "agent/step/step.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/wire/local.h"

/* Between what ranks say to each other (share.h), their connections and the mesh. */

static void on_pump(uv_timer_t *timer)
{
    struct step *step = timer->data;
    share_pump(step->share, clock_mono_ns());
    if (share_settled(step->share))
        uv_timer_stop(timer);
}

static bool op_send(void *context, const struct mesh_frame *frame)
{
    return agent_link_send_frame(context, frame);
}

/* To what it said last: it waits for nothing else. */
static void tell(struct rank *rank, struct local_message *message)
{
    message->question = rank->question;
    rank_link_tell(rank, message);
}

static void op_answer(void *context, uint32_t number, enum tide_status status, const struct share_value *value)
{
    struct rank *rank = ranks_find(context, number);
    struct local_message message = {.type = status == TIDE_OK ? LOCAL_SHARED : LOCAL_REFUSED, .status = status};
    if (rank == NULL)
        return;
    if (value != NULL) {
        struct local_share *to = local_share_of(&message);
        message.bytes = value->bytes;
        text_copy(to->name, sizeof to->name, value->name);
        memcpy(to->data, value->data, value->bytes);
    } else if (status == TIDE_E_TIMEOUT) {
        snprintf(message.text, sizeof message.text,
                 "the rank that gives it has not given it within the deadline: does it call tide_share?");
    } else if (status != TIDE_OK) {
        snprintf(message.text, sizeof message.text, "the job has no such rank");
    }
    tell(rank, &message);
}

void share_renew(struct step *step)
{
    struct share_ops ops = {.context = step, .send = op_send, .answer = op_answer};
    share_free(step->share);
    step->share = share_create(&step->spec, &ops);
}

void share_start(struct step *step)
{
    share_renew(step);
    uv_timer_init(&step->loop, &step->share_timer);
    step->share_timer.data = step;
}

static void say_refused(const struct share_value *value, enum tide_status status, char *to, size_t size)
{
    if (status == TIDE_E_EXISTS)
        snprintf(to, size, "rank %u has given %s already, and something else; take another name", value->rank, value->name);
    else
        snprintf(to, size,
                 "rank %u cannot give %s: the ranks of its node have given %d names, and more are not kept in a generation; "
                 "give fewer",
                 value->rank, value->name, TIDE_SHARES_MAX);
}

static void give(struct step *step, struct rank *rank, const struct local_message *message, const struct local_share *said)
{
    struct share_value value = {.rank = rank->report.rank, .bytes = (uint32_t)message->bytes};
    struct local_message answer = {.type = LOCAL_SHARED};
    text_copy(value.name, sizeof value.name, said->name);
    memcpy(value.data, said->data, value.bytes);
    enum tide_status status = share_give(step->share, &value);
    if (status != TIDE_OK) {
        answer = (struct local_message){.type = LOCAL_REFUSED, .status = status};
        say_refused(&value, status, answer.text, sizeof answer.text);
    }
    tell(rank, &answer);
}

void share_take(struct step *step, struct rank *rank, const struct local_message *message)
{
    struct local_message copy = *message;
    struct local_share *said = local_share_of(&copy);
    uint64_t now = clock_mono_ns();
    said->name[sizeof said->name - 1] = '\0';
    rank->question = message->question;
    share_forget(step->share, rank->report.rank);
    if (message->bytes > sizeof said->data) {
        tell(rank, &(struct local_message){.type = LOCAL_REFUSED, .status = TIDE_E_INVALID});
    } else if (message->type == LOCAL_SHARE_GIVE) {
        give(step, rank, message, said);
    } else {
        share_ask(step->share, rank->report.rank, message->slot, said->name, now + message->attempt * NS_PER_MS, now);
        if (!share_settled(step->share) && !uv_is_active((uv_handle_t *)&step->share_timer))
            uv_timer_start(&step->share_timer, on_pump, SHARE_RESEND_MS / 5, SHARE_RESEND_MS / 5);
    }
}
