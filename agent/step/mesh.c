/* SPDX-License-Identifier: Apache-2.0 */
#include <pmix_common.h>
#include <signal.h>
#include <stdio.h>

#include "agent/step/step.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"

/* ---- what the exchange asks for ---- */

static bool op_send(void *context, const struct mesh_frame *frame)
{
    return agent_link_send_frame(context, frame);
}

static void op_answer(void *context, void *request, int32_t status, char *data, size_t bytes)
{
    struct step *step = context;
    host_pmix_answer(step->pmix, request, status, data, bytes);
}

static int32_t op_fetch(void *context, uint64_t key, uint32_t number)
{
    struct step *step = context;
    struct rank *rank = ranks_find(step, number);
    /* libpmix never answers for a rank that died before it said anything. */
    if (rank == NULL || rank->ended_ns != 0)
        return PMIX_ERR_PROC_TERM_WO_SYNC;
    return host_pmix_fetch(step->pmix, key, number);
}

/* ---- what libpmix says ---- */

static void on_pump(uv_timer_t *timer)
{
    mesh_pump(timer->data);
}

static void on_abort_due(uv_timer_t *timer)
{
    struct rank *rank = timer->data;
    if (rank->ended_ns == 0)
        kill(-rank->report.pid, SIGKILL);
}

static void take_abort(struct step *step, const struct pmix_event *event)
{
    struct rank *rank = ranks_find(step, event->rank);
    if (rank == NULL || rank->ended_ns != 0)
        return;
    rank->aborted = true;
    rank->abort_status = event->status;
    text_copy(rank->abort_text, sizeof rank->abort_text, event->text);
    uv_timer_start(&rank->abort_timer, on_abort_due, STEP_ABORT_MS, 0);
}

static void take_up(struct step *step, const struct pmix_event *event)
{
    uv_timer_stop(&step->pmix_late);
    if (step->spawned)
        return; /* told to end meanwhile, or given up */
    if (event->status != PMIX_SUCCESS)
        step_cannot_start(step, event->text);
    else
        ranks_start(step);
}

static void take_event(struct step *step, struct pmix_event *event)
{
    struct rank *rank = ranks_find(step, event->rank);
    uint64_t now = clock_mono_ns();
    switch (event->kind) {
    case PMIX_UP:
        take_up(step, event);
        break;
    case PMIX_CONNECTED:
        if (rank != NULL)
            rank->connected = true;
        break;
    case PMIX_LEFT:
        if (rank != NULL)
            rank->left = true;
        break;
    case PMIX_ABORTED:
        take_abort(step, event);
        break;
    case PMIX_FENCED:
        exchange_fence(step->exchange, event->request, event->list, event->members, event->status, event->data, event->bytes, now);
        break;
    case PMIX_WANTED:
        exchange_modex(step->exchange, event->request, event->rank, now);
        break;
    case PMIX_FETCHED:
        exchange_fetched(step->exchange, event->key, event->status, event->data, event->bytes);
        break;
    default:
        break;
    }
}

void mesh_drain(struct step *step)
{
    struct pmix_event *event;
    while (step->pmix != NULL && (event = host_pmix_next(step->pmix)) != NULL) {
        take_event(step, event);
        pmix_event_free(event);
    }
    if (step->exchange != NULL && !mesh_settled(step) && !uv_is_active((uv_handle_t *)&step->mesh_timer))
        uv_timer_start(&step->mesh_timer, on_pump, EXCHANGE_RESEND_MS / 5, EXCHANGE_RESEND_MS / 5);
}

static void on_wake(uv_async_t *async)
{
    mesh_drain(async->data);
}

static void wake(void *context)
{
    struct step *step = context;
    uv_async_send(&step->pmix_wake);
}

static void on_late(uv_timer_t *timer)
{
    struct step *step = timer->data;
    if (step->spawned)
        return;
    char text[TIDE_TEXT_MAX + 1];
    snprintf(text, sizeof text, "the PMIx server for MPI did not come up within %u s: libpmix hangs on this host",
             STEP_PMIX_UP_MS / 1000);
    step_cannot_start(step, text);
}

/* ---- for the rest of the step ---- */

enum tide_status mesh_start(struct step *step, struct err *err)
{
    char dir[TIDE_PATH_MAX + 1];
    snprintf(dir, sizeof dir, "%s/pmix", step->dir);
    struct exchange_ops ops = {.context = step, .send = op_send, .answer = op_answer, .fetch = op_fetch};
    uv_async_init(&step->loop, &step->pmix_wake, on_wake);
    uv_timer_init(&step->loop, &step->pmix_late);
    uv_timer_init(&step->loop, &step->mesh_timer);
    step->pmix_wake.data = step->pmix_late.data = step->mesh_timer.data = step;
    step->exchange = exchange_create(&step->spec, &ops);
    uv_timer_start(&step->pmix_late, on_late, STEP_PMIX_UP_MS, 0);
    return host_pmix_start(&step->spec, dir, wake, step, &step->pmix, err);
}

void mesh_pump(struct step *step)
{
    if (step->exchange == NULL)
        return;
    exchange_pump(step->exchange, clock_mono_ns());
    if (exchange_settled(step->exchange))
        uv_timer_stop(&step->mesh_timer);
}

void mesh_frame(struct step *step, const struct mesh_frame *frame)
{
    if (frame->kind == MESH_SHARE_ASK || frame->kind == MESH_SHARE_REPLY)
        share_frame(step->share, frame);
    else if (frame->kind == MESH_MARKS_ASK || frame->kind == MESH_MARKS)
        bookmarks_frame(step->marks, frame);
    else if (step->exchange != NULL)
        exchange_frame(step->exchange, frame, clock_mono_ns());
}

void mesh_reconnected(struct step *step)
{
    share_reconnected(step->share);
    bookmarks_reconnected(step->marks);
    if (step->exchange != NULL)
        exchange_reconnected(step->exchange);
    mesh_pump(step);
}

void mesh_rank_gone(struct step *step, uint32_t rank)
{
    if (step->exchange != NULL)
        exchange_rank_gone(step->exchange, rank);
}

bool mesh_settled(const struct step *step)
{
    return step->exchange == NULL || exchange_settled(step->exchange);
}
