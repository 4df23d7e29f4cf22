/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/watch.h"

#include <inttypes.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/text.h"
#include "coordinator/cli/show.h"
#include "coordinator/cli/units.h"

#define GAP_MS 100 /* between two questions */

bool ckpt_settled(const struct ckpt *ckpt)
{
    return ckpt_in_memory(ckpt) ? ckpt->reason[0] != '\0' : ckpt->state != TIDE_CKPT_OPEN;
}

bool watch_ended(const struct job_view *view, void *context)
{
    (void)context;
    return job_ended(view->job.state);
}

/* What the coordinator says of the checkpoint that is being recorded: who has, and who is missing. NULL: there is none. */
static const char *cut_text(const struct job_view *view)
{
    bool open = false;
    for (size_t i = 0; i < view->job.ckpts.count; i++)
        open = open || view->job.ckpts.items[i].state == TIDE_CKPT_OPEN;
    for (size_t i = 0; open && i < view->explain.count; i++)
        if (strstr(view->explain.items[i], "checkpoint") != NULL && strstr(view->explain.items[i], " of ") != NULL)
            return view->explain.items[i];
    return NULL;
}

static void tell(const struct job_view *view, const char *what, uint64_t begun_ns)
{
    char steps[64], time[UNIT_TEXT_MAX];
    const struct job *job = &view->job;
    const char *cut = cut_text(view);
    if (cut != NULL) {
        progress_show("%s, %s", cut, duration_text((clock_mono_ns() - begun_ns) / NS_PER_MS, time));
        return;
    }
    steps_text(view, steps, sizeof steps);
    progress_show("waiting for %s: %s, generation %" PRIu64 "%s%s%s%s, %s", what, job_state_names[job->state],
                  job->generation, steps[0] ? ", " : "", steps, job->reason[0] ? " - " : "", job->reason,
                  duration_text((clock_mono_ns() - begun_ns) / NS_PER_MS, time));
}

static enum tide_status too_late(const struct job_view *view, const char *what, uint64_t within_ms, struct fault *fault)
{
    char time[UNIT_TEXT_MAX], hint[TIDE_TEXT_MAX + 1];
    text_say(hint, sizeof hint, "it may still happen; tidemark job explain %s tells what it waits for", view->job.spec.name);
    return fault_set(fault, TIDE_E_TIMEOUT, hint, "waited %s for %s; the job is %s%s%s", duration_text(within_ms, time),
                     what, job_state_names[view->job.state], view->job.reason[0] ? ": " : "", view->job.reason);
}

enum tide_status watch_job(struct client *client, const char *job, uint64_t within_ms, const char *what,
                           bool (*enough)(const struct job_view *view, void *context), void *context,
                           struct job_view *ret_view, json_t **ret_json, struct fault *fault)
{
    uint64_t begun_ns = clock_mono_ns(), deadline_ns = begun_ns + within_ms * NS_PER_MS, after = 0;
    for (;;) {
        struct job_view view;
        json_t *json = NULL;
        uint64_t now = clock_mono_ns(), left = now < deadline_ns ? (deadline_ns - now) / NS_PER_MS + 1 : 0;
        uint64_t hold = term_progress_wanted() ? WATCH_MS_TERMINAL : WATCH_MS_PIPE;
        enum tide_status status = client_job(client, job, after, left < hold ? left : hold, &view, &json, fault);
        if (status != TIDE_OK) {
            progress_clear();
            return status;
        }
        if (enough(&view, context)) {
            progress_clear();
            *ret_view = view;
            if (ret_json != NULL)
                *ret_json = json;
            else
                json_decref(json);
            return TIDE_OK;
        }
        /* The leader sees a change at every heartbeat; nobody needs to be told that often. */
        for (uint64_t until = now + GAP_MS * NS_PER_MS; (now = clock_mono_ns()) < until;)
            http_wait(client->http, (int)((until - now) / NS_PER_MS) + 1);
        if (left == 0)
            status = too_late(&view, what, within_ms, fault);
        else
            tell(&view, what, begun_ns);
        after = view.revision ? view.revision : 1;
        codec_release(&job_view_codec, &view);
        json_decref(json);
        if (status != TIDE_OK) {
            progress_clear();
            return status;
        }
    }
}
