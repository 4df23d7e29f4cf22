/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/step/step.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/wire/local.h"

/* From one generation to the next with the ranks that stay; the table is in README.md. */

static struct control_page *map_page(const struct rank *rank)
{
    char path[TIDE_PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/" CONTROL_FILE_FORMAT, rank->step->spec.arena, rank->report.rank);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *map = fd >= 0 ? mmap(NULL, CONTROL_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (fd >= 0)
        close(fd);
    return map != MAP_FAILED ? map : NULL;
}

static void refuse_questions(struct rank *rank)
{
    struct local_message refused = {.type = LOCAL_REFUSED, .status = TIDE_E_RESTART};
    snprintf(refused.text, sizeof refused.text, "generation %llu of the job is over; call tide_restart",
             (unsigned long long)rank->step->spec.generation);
    /* Whatever it waits for; if for nothing, it passes over these. */
    rank_link_renew(rank);
    rank_link_tell(rank, &refused);
    refused.question = rank->question;
    if (refused.question != 0)
        rank_link_tell(rank, &refused);
}

/* False: it has not asked to stay. */
static bool tell_over(struct rank *rank)
{
    struct control_page *page = rank->link != NULL ? map_page(rank) : NULL;
    bool stays = page != NULL && atomic_load(&page->stays) != 0;
    if (stays) {
        rank->stay = RANK_TOLD;
        atomic_fetch_or(&page->over, CONTROL_OVER);
        syscall(SYS_futex, &page->over, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
        refuse_questions(rank);
    }
    if (page != NULL)
        munmap(page, CONTROL_PAGE_BYTES);
    return stays;
}

bool stay_over(const struct rank *rank)
{
    return rank->stay != RANK_STAYS_NOT;
}

void stay_take_left(struct rank *rank, const struct local_message *message)
{
    rank->stay = RANK_LEFT;
    rank->question = message->question;
}

/* ---- out of the one ---- */

static void kill_late(struct rank *rank)
{
    log_warn("rank %u (pid %d) has not left generation %llu within %u ms, and is started anew with the next", rank->report.rank,
             rank->report.pid, (unsigned long long)rank->step->spec.generation, STEP_LEAVE_MS);
    rank->stay = RANK_STAYS_NOT;
    kill(-rank->report.pid, SIGKILL);
}

/* Every rank is gone, with all it has printed, or has left. */
static bool all_out(struct step *step, uint64_t now_ns)
{
    bool late = now_ns - step->leave_ns >= STEP_LEAVE_MS * NS_PER_MS, out = true;
    for (uint32_t i = 0; i < step->rank_count; i++) {
        struct rank *rank = &step->ranks[i];
        if (rank->ended_ns == 0 && rank->stay == RANK_TOLD && late)
            kill_late(rank);
        if (rank->ended_ns == 0 ? rank->stay != RANK_LEFT : !ranks_closed(rank, now_ns))
            out = false;
    }
    return out;
}

static void end_all(struct step *step)
{
    uv_timer_stop(&step->stay_timer);
    step->leaving = step->left = false;
    step_end(step, 0);
}

static void tell_left(struct step *step, uint64_t now_ns)
{
    step->left = true;
    step->left_ns = now_ns;
    log_info("generation %llu is left after %llu ms; who is still there waits for the next", (unsigned long long)step->spec.generation,
             (unsigned long long)((now_ns - step->leave_ns) / NS_PER_MS));
    status_changed(step);
}

static void go_over(struct step *step);

/* Was every pipe of a rank that is gone closed in an earlier turn of the loop? Else that is seen to. Who has left and has closed its
 * connection since is about to end, or wants no part in what comes: it cannot be told, and is started anew, too. */
static bool closed_before(struct step *step, uint64_t now_ns)
{
    bool closed = true;
    for (uint32_t i = 0; i < step->rank_count; i++) {
        struct rank *rank = &step->ranks[i];
        if (rank->ended_ns == 0 ? rank->link != NULL : !rank->out.open && !rank->err.open)
            continue;
        closed = false;
        if (rank->ended_ns == 0) {
            kill(-rank->report.pid, SIGKILL);
            continue;
        }
        (void)ranks_closed(rank, now_ns);
    }
    return closed;
}

static void on_stay(uv_timer_t *timer)
{
    struct step *step = timer->data;
    uint64_t now = clock_mono_ns();
    if (step->told_to_end || ranks_gone(step)) { /* what ends a step is under way */
        uv_timer_stop(timer);
        step->leaving = step->left = false;
        step->go_over = 0;
        return;
    }
    if (step->go_over) { /* before anything is reaped: what ended in an earlier turn is closed by now */
        if (closed_before(step, now))
            go_over(step);
        return;
    }
    ranks_reap(step);
    if (!step->left) {
        ranks_kill_orphans(step);
        if (all_out(step, now))
            tell_left(step, now);
    }
    if (step->left && now - step->left_ns >= STEP_STAY_MS * NS_PER_MS)
        end_all(step);
    for (uint32_t i = 0; i < step->rank_count; i++)
        if (now >= step->wait_ns && step->ranks[i].stay == RANK_LEFT)
            rank_link_say_wait(&step->ranks[i], 0, step->ranks[i].question);
    if (now >= step->wait_ns)
        step->wait_ns = now + STEP_RESTORE_SAY_MS * NS_PER_MS;
}

void stay_init(struct step *step)
{
    uv_timer_init(&step->loop, &step->stay_timer);
    step->stay_timer.data = step;
}

void stay_leave(struct step *step, uint64_t generation)
{
    uint32_t stay = 0;
    /* Of an agent that did not know that its predecessor had us go over: it looks again. */
    if (generation != step->spec.generation || step->leaving || step->told_to_end || step->ended) {
        status_changed(step);
        return;
    }
    log_info("generation %llu is over", (unsigned long long)step->spec.generation);
    for (uint32_t i = 0; i < step->rank_count && step->spawned; i++)
        stay += step->ranks[i].ended_ns == 0 && tell_over(&step->ranks[i]);
    if (stay == 0) {
        step_end(step, 0);
        return;
    }
    step->leaving = true;
    step->leave_ns = step->wait_ns = clock_mono_ns();
    for (uint32_t i = 0; i < step->rank_count; i++)
        if (step->ranks[i].ended_ns == 0 && step->ranks[i].stay == RANK_STAYS_NOT)
            kill(-step->ranks[i].report.pid, SIGKILL);
    uv_timer_start(&step->stay_timer, on_stay, 0, STEP_TICK_MS);
}

/* ---- into the other ---- */

void stay_go_over(struct step *step, uint64_t generation)
{
    if (!step->left || step->told_to_end || ranks_gone(step)) {
        log_warn("told to go over to another generation, and has not left generation %llu", (unsigned long long)step->spec.generation);
        return;
    }
    step->go_over = generation;
    uv_timer_start(&step->stay_timer, on_stay, 0, STEP_TICK_MS);
}

static void go_over(struct step *step)
{
    struct err err = {0};
    bool lives[TIDE_LOCAL_RANKS_MAX];
    uv_timer_stop(&step->stay_timer);
    enum tide_status status = prepare_next(step, step->go_over, &err);
    step->go_over = 0;
    if (status != TIDE_OK) {
        log_error("%s", err.text);
        end_all(step);
        return;
    }
    step->leaving = step->left = step->spawned = false;
    step->detail[0] = '\0';
    share_renew(step);
    marks_renew(step);
    for (uint32_t i = 0; i < step->rank_count; i++) {
        lives[i] = step->ranks[i].ended_ns == 0;
        ranks_renew(&step->ranks[i]);
    }
    status = prepare_generation(step, &err);
    if (status != TIDE_OK) {
        step_cannot_start(step, err.text);
        return;
    }
    for (uint32_t i = 0; i < step->rank_count; i++) {
        struct rank *rank = &step->ranks[i];
        if (lives[i])
            rank_link_tell(rank, &(struct local_message){.type = LOCAL_NEXT, .question = rank->question});
        rank->question = 0;
    }
    log_info("goes over to generation %llu", (unsigned long long)step->spec.generation);
    ranks_start(step);
    step_near_end(step);
}
