/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/step/step.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"

void status_fill(const struct step *step, struct step_status *ret_status)
{
    struct step_status status = {.generation = step->spec.generation, .pid = getpid(), .ended = step->ended,
                                 .left = step->left};
    uint64_t now = clock_mono_ns();
    text_copy(status.uid, sizeof status.uid, step->spec.uid);
    text_copy(status.detail, sizeof status.detail, step->detail);
    status.started = step->spawned && ranks_resolved(step);
    for (uint32_t i = 0; i < step->rank_count; i++) {
        const struct rank *rank = &step->ranks[i];
        struct rank_report *report = codec_list_add(&rank_report_codec, &status.ranks);
        *report = rank->report;
        report->slots = slots_count(rank);
        if (rank->ended_ns != 0)
            report->exited_ago_ms = (now - rank->ended_ns) / NS_PER_MS;
        if (!rank->asking)
            continue;
        report->state = TIDE_RANK_RESTORING;
        struct step_ask *ask = codec_list_add(&step_ask_codec, &status.asks);
        *ask = rank->ask;
    }
    *ret_status = status;
}

void status_release(struct step_status *status)
{
    codec_release(&step_status_codec, status);
}

/* By rename, so that a reader never sees half of it. Not synced: a host that crashes takes the ranks along. */
static void replace_file(const struct step *step, const char *text)
{
    char path[TIDE_PATH_MAX + 32], temporary[TIDE_PATH_MAX + 32];
    struct err err = {0};
    snprintf(path, sizeof path, "%s/" STEP_STATUS_FILE, step->dir);
    snprintf(temporary, sizeof temporary, "%s/" STEP_STATUS_FILE ".tmp", step->dir);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    enum tide_status status = fd < 0 ? err_errno(&err, "cannot create %s", temporary)
                                     : fsx_write_all(fd, text, strlen(text), temporary, &err);
    if (fd >= 0)
        close(fd);
    if (status == TIDE_OK && rename(temporary, path) != 0)
        status = err_errno(&err, "cannot replace %s", path);
    if (status != TIDE_OK)
        log_warn("%s; an agent that starts after this step has ended will not know how", err.text);
}

void status_flush(struct step *step)
{
    uv_timer_stop(&step->status_timer);
    agent_link_status(step);
    struct step_status status;
    status_fill(step, &status);
    char *text = codec_print(&step_status_codec, &status, CODEC_COMPACT);
    replace_file(step, text);
    mem_free(text);
    status_release(&status);
}

static void on_timer(uv_timer_t *timer)
{
    status_flush(timer->data);
}

void status_changed(struct step *step)
{
    /* Once per turn of the loop, however many ranks end in it. */
    if (!uv_is_active((uv_handle_t *)&step->status_timer))
        uv_timer_start(&step->status_timer, on_timer, 0, 0);
}

void status_init(struct step *step)
{
    uv_timer_init(&step->loop, &step->status_timer);
    step->status_timer.data = step;
}
