/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/step/step.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "agent/step/cgroup.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"

/* ---- the end ---- */

static void on_final(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

void step_heard(struct step *step)
{
    if (step->ended)
        uv_stop(&step->loop);
}

/* Nothing of this generation runs any more. An agent that is not there to hear it finds the status file. */
static void finish(struct step *step)
{
    uv_timer_stop(&step->tick_timer);
    prepare_undo(step);
    step->ended = true;
    log_info("generation %llu of job %s has ended here", (unsigned long long)step->spec.generation, step->spec.job.name);
    uv_timer_start(&step->final_timer, on_final, STEP_FINAL_MS, 0);
    status_flush(step);
}

static void kill_when_due(struct step *step, uint64_t now_ns)
{
    if (!step->told_to_end || now_ns < step->kill_ns)
        return;
    ranks_signal(step, SIGKILL);
    ranks_kill_rest(step);
}

/* What we said to other nodes must arrive before we go, else their ranks wait for ever. */
static bool may_leave(const struct step *step, uint64_t now_ns)
{
    return step->told_to_end || mesh_settled(step) || now_ns - step->gone_ns >= STEP_SETTLE_MS * NS_PER_MS;
}

static void on_tick(uv_timer_t *timer)
{
    struct step *step = timer->data;
    uint64_t now = clock_mono_ns();
    ranks_reap(step);
    kill_when_due(step, now);
    if (!ranks_gone(step))
        return;
    if (step->gone_ns == 0)
        step->gone_ns = now;
    ranks_kill_rest(step);
    bool late = now - step->gone_ns >= STEP_DRAIN_MS * NS_PER_MS;
    if (!ranks_alone(step)) {
        if (late && step->detail[0] == '\0') {
            text_copy(step->detail, sizeof step->detail, "waiting for processes of its ranks that do not die (in the kernel?)");
            status_changed(step);
        }
        return;
    }
    if (!ranks_drained(step, late))
        return;
    if (may_leave(step, now))
        finish(step);
}

void step_near_end(struct step *step)
{
    if (step->ended || uv_is_active((uv_handle_t *)&step->tick_timer))
        return;
    if (step->told_to_end || (step->spawned && ranks_gone(step)))
        uv_timer_start(&step->tick_timer, on_tick, 0, STEP_TICK_MS);
}

static void never_started(struct step *step, const char *reason, int32_t exit_code, int32_t number)
{
    uint64_t now = clock_mono_ns();
    for (uint32_t i = 0; i < step->rank_count; i++) {
        struct rank *rank = &step->ranks[i];
        if (rank->ended_ns != 0 || rank->report.pid != 0)
            continue;
        rank->report.state = TIDE_RANK_EXITED;
        rank->report.exit_code = exit_code;
        rank->report.signal = number;
        text_fit(rank->report.detail, sizeof rank->report.detail, reason);
        rank->ended_ns = now;
    }
    step->spawned = true;
    status_changed(step);
    step_near_end(step);
}

void step_cannot_start(struct step *step, const char *reason)
{
    log_error("%s", reason);
    text_fit(step->detail, sizeof step->detail, reason);
    never_started(step, reason, 1, 0);
    /* Those of this node that did start cannot do without the others. */
    if (!ranks_gone(step))
        step_end(step, 0);
}

void step_end(struct step *step, uint64_t grace_ms)
{
    uint64_t kill_ns = clock_mono_ns() + grace_ms * NS_PER_MS;
    if (step->told_to_end && kill_ns >= step->kill_ns)
        return;
    log_info("told to end within %llu ms", (unsigned long long)grace_ms);
    bool first = !step->told_to_end;
    step->left = step->leaving = false;
    step->told_to_end = true;
    step->kill_ns = kill_ns;
    if (!step->spawned)
        never_started(step, "was not started: the step was told to end first", 0, SIGKILL);
    if (first && grace_ms > 0)
        ranks_signal(step, SIGTERM);
    kill_when_due(step, clock_mono_ns());
    step_near_end(step);
}

/* ---- the start ---- */

static void on_signal(uv_signal_t *handle, int number)
{
    struct step *step = handle->data;
    if (number == SIGCHLD)
        ranks_reap(step);
    else
        step_end(step, step->spec.job.stop_grace_ms);
}

static void watch_signal(struct step *step, uv_signal_t *handle, int number)
{
    uv_signal_init(&step->loop, handle);
    handle->data = step;
    uv_signal_start(handle, on_signal, number);
}

static void init_loop(struct step *step)
{
    uv_loop_init(&step->loop);
    step->loop.data = step;
    uv_timer_init(&step->loop, &step->tick_timer);
    uv_timer_init(&step->loop, &step->final_timer);
    step->tick_timer.data = step;
    stay_init(step);
    watch_signal(step, &step->on_child, SIGCHLD);
    watch_signal(step, &step->on_term, SIGTERM);
    watch_signal(step, &step->on_int, SIGINT);
    signal(SIGPIPE, SIG_IGN);
    status_init(step);
}

/* A process of its own for everybody: no terminal, no group of the agent's, and orphans of ranks come to us. */
static void detach(void)
{
    if (setsid() < 0 && errno != EPERM)
        log_warn("cannot leave the agent's session");
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
        log_warn("cannot become a subreaper: processes that ranks leave behind may escape");
}

static enum tide_status launch(struct step *step, struct err *err)
{
    enum tide_status status = prepare_host(step, err);
    if (status != TIDE_OK)
        return status;
    if (step->spec.job.launcher == LAUNCHER_PMIX)
        return mesh_start(step, err);
    ranks_start(step);
    return TIDE_OK;
}

enum tide_status step_start(struct step *step, const char *dir, struct err *err)
{
    enum tide_status status = prepare_spec(step, dir, err);
    if (status != TIDE_OK)
        return status;
    detach();
    init_loop(step);
    ranks_init(step);
    share_start(step);
    marks_start(step);
    status = prepare_sockets(step, err);
    if (status == TIDE_OK)
        status = agent_link_listen(step, err);
    if (status == TIDE_OK)
        status = rank_link_listen(step, err);
    if (status != TIDE_OK)
        return status;
    status_flush(step);
    if (launch(step, err) != TIDE_OK)
        step_cannot_start(step, err->text);
    return TIDE_OK;
}
