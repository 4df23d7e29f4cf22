/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/steps.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "agent/rpc/cgroup.h"
#include "agent/rpc/steps_inner.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"

#define SPEC_BYTES_MAX (64u << 20) /* 4096 peers and a large environment fit */
#define DIR_MODE 0700
#define FRAME_KEPT_MS 5000u
#define GIVE_UP_MS 1000u /* for processes to die, when an agent starts */

struct steps *steps_create(uv_loop_t *loop, const struct dirs *dirs, const char *node, const char *program,
                           const struct steps_hooks *hooks)
{
    struct steps *steps = mem_alloc(sizeof *steps);
    steps->loop = loop;
    steps->dirs = dirs;
    steps->hooks = *hooks;
    getrlimit(RLIMIT_NOFILE, &steps->files);
    text_copy(steps->node, sizeof steps->node, node);
    text_copy(steps->program, sizeof steps->program, program);
    return steps;
}

static void kept_remove(struct steps *steps, size_t index)
{
    codec_release(&mesh_frame_codec, &steps->kept.items[index].frame);
    steps->kept.items[index] = steps->kept.items[--steps->kept.count];
}

void steps_close(struct steps *steps)
{
    steps->closing = true;
    for (struct step_process *process = steps->first; process != NULL; process = process->next)
        process_drop(process);
    while (steps->kept.count > 0)
        kept_remove(steps, steps->kept.count - 1);
}

void steps_free(struct steps *steps)
{
    mem_free(steps->kept.items);
    mem_free(steps);
}

struct step_process *process_of(struct steps *steps, const char *uid, uint64_t generation)
{
    for (struct step_process *process = steps->first; process != NULL; process = process->next)
        if (!process->dropped && process->spec.generation == generation && strcmp(process->spec.uid, uid) == 0)
            return process;
    return NULL;
}

void process_say(struct step_process *process, const struct step_status *status)
{
    struct agent_event event = {.kind = EV_STEP_STATUS, .step_status = status};
    if (strcmp(status->uid, process->spec.uid) != 0) {
        log_error("job %s: its step speaks of another job and is ignored", process->spec.job.name);
        return;
    }
    if (status->generation > process->spec.generation)
        process_reread(process);
    /* Said before it went over. */
    if (status->generation != process->spec.generation)
        return;
    process->steps->hooks.event(process->steps->hooks.context, &event);
}

void process_found(struct step_process *process)
{
    struct agent_event event = {.kind = EV_STEP_FOUND, .spec = &process->spec};
    for (uint32_t i = 0; i < process->pages.count && !event.stays; i++)
        event.stays = pages_look(&process->pages, process->pages.first_rank + i, &event.page, &event.comms) && event.page.stays;
    process->steps->hooks.event(process->steps->hooks.context, &event);
}

void process_look(struct step_process *process)
{
    struct agent_event event = {.kind = EV_PAGE, .generation = process->spec.generation};
    text_copy(event.uid, sizeof event.uid, process->spec.uid);
    for (uint32_t i = 0; i < process->pages.count && !process->dropped; i++) {
        event.rank = process->pages.first_rank + i;
        event.progress = pages_progress(&process->pages, event.rank);
        if (pages_look(&process->pages, event.rank, &event.page, &event.comms))
            process->steps->hooks.event(process->steps->hooks.context, &event);
    }
}

void steps_look(struct steps *steps)
{
    for (struct step_process *process = steps->first; process != NULL; process = process->next)
        if (!process->dead && !process->dropped)
            process_look(process);
}

enum agent_arm_outcome steps_arm(struct steps *steps, const struct agent_action *action, uint64_t *ret_step)
{
    struct step_process *process = process_of(steps, action->uid, action->generation);
    if (process == NULL || process->dead)
        return ARM_NO_PAGE;
    return pages_arm(&process->pages, action->rank, action->cut, action->attempt, action->slot, action->step,
                     action->epoch, ret_step);
}

void steps_disarm(struct steps *steps, const struct agent_action *action)
{
    struct step_process *process = process_of(steps, action->uid, action->generation);
    if (process != NULL)
        pages_disarm(&process->pages, action->rank, action->cut);
}

void steps_epochs(struct steps *steps, const struct agent_action *action)
{
    struct step_process *process = process_of(steps, action->uid, action->generation);
    if (process != NULL)
        pages_epochs(&process->pages, action->rank, &action->epochs);
}

enum tide_status steps_start(struct steps *steps, struct step_spec *spec, struct err *err)
{
    char dir[TIDE_PATH_MAX + 1];
    if (process_of(steps, spec->uid, spec->generation) != NULL)
        return err_set(err, TIDE_E_EXISTS, "generation %llu of job %s has been started here already",
                       (unsigned long long)spec->generation, spec->job.name);
    text_copy(dir, sizeof dir, spec->dir);
    enum tide_status status = fsx_mkdirs(spec->dir, DIR_MODE, err);
    if (status != TIDE_OK)
        return status;
    struct step_process *process = process_make(steps, spec);
    status = process_spawn(process, err);
    if (status != TIDE_OK) {
        process_drop(process);
        fsx_remove_tree(dir, NULL);
    }
    return status;
}

void steps_end(struct steps *steps, const char *uid, uint64_t generation, uint64_t grace_ms)
{
    struct step_process *process = process_of(steps, uid, generation);
    struct step_line line = {.kind = STEP_END, .grace_ms = grace_ms};
    if (process != NULL && !process->dead && !socket_send(process, &line))
        process_kill(process); /* fencing does not wait for a step that cannot be spoken to */
}

void steps_kill(struct steps *steps, const char *uid, uint64_t generation)
{
    struct step_process *process = process_of(steps, uid, generation);
    if (process != NULL)
        process_kill(process);
}

void steps_answer(struct steps *steps, const char *uid, uint64_t generation, const struct step_answer *answer)
{
    struct step_process *process = process_of(steps, uid, generation);
    struct step_line line = {.kind = STEP_ANSWER, .answer = *answer};
    if (process != NULL && !socket_send(process, &line))
        log_debug("job %s: the answer to rank %u waits until its step asks again", process->spec.job.name, answer->rank);
}

void steps_leave(struct steps *steps, const char *uid, uint64_t generation)
{
    struct step_process *process = process_of(steps, uid, generation);
    if (process == NULL || process->dead)
        return;
    process->leave_due = true;
    leave_flush(process);
}

void leave_flush(struct step_process *process)
{
    struct step_line line = {.kind = STEP_LEAVE, .generation = process->spec.generation};
    if (process->leave_due && socket_send(process, &line))
        process->leave_due = false;
}

enum tide_status steps_go_over(struct steps *steps, uint64_t from, struct step_spec *spec, struct err *err)
{
    struct step_process *process = process_of(steps, spec->uid, from);
    if (process == NULL || process->dead || process_of(steps, spec->uid, spec->generation) != NULL)
        return err_set(err, TIDE_E_STATE, "no step of generation %llu of job %s is left here", (unsigned long long)from,
                       spec->job.name);
    return process_go_over(process, spec, err);
}

void steps_widen(struct steps *steps, const char *uid, uint64_t generation)
{
    struct step_process *process = process_of(steps, uid, generation);
    if (process != NULL && !socket_send(process, &(struct step_line){.kind = STEP_WIDEN}))
        log_debug("job %s: its step is not connected, and is asked for third slots again", process->spec.job.name);
}

void steps_remove_dir(struct steps *steps, const char *uid, uint64_t generation)
{
    struct step_process *process = process_of(steps, uid, generation);
    struct err err = {0};
    if (process == NULL)
        return;
    if (fsx_remove_tree(process->spec.dir, &err) != TIDE_OK)
        log_warn("%s", err.text);
    process_drop(process);
}

bool steps_running(struct steps *steps, const char *uid, uint64_t generation)
{
    struct step_process *process = process_of(steps, uid, generation);
    return process != NULL && !process->gone;
}

bool steps_running_any(struct steps *steps, const char *uid)
{
    for (const struct step_process *process = steps->first; process != NULL; process = process->next)
        if (!process->dropped && !process->gone && strcmp(process->spec.uid, uid) == 0)
            return true;
    return false;
}

/* ---- frames ---- */

static bool credible(const struct step_process *process, const struct mesh_frame *frame, const char *pin)
{
    const struct step_spec *spec = &process->spec;
    if (strcmp(spec->token, frame->token) != 0 || spec->node_rank != frame->to || frame->from >= spec->peers.count)
        return false;
    const char *known = spec->peers.items[frame->from].pin;
    return known[0] == '\0' || strcmp(known, pin) == 0;
}

static void deliver(struct step_process *process, const struct mesh_frame *frame)
{
    /* Borrowed, and given back untouched: the line is only printed. */
    struct step_line line = {.kind = STEP_MESH, .frame = *frame};
    socket_send(process, &line);
}

static void keep(struct steps *steps, const struct mesh_frame *frame, const char *pin)
{
    uint64_t now_ns = clock_mono_ns();
    for (size_t i = 0; i < steps->kept.count;)
        if (now_ns >= steps->kept.items[i].until_ns)
            kept_remove(steps, i);
        else
            i++;
    if (steps->kept.count >= STEP_FRAMES_KEPT_MAX)
        return; /* its sender says it again */
    steps->kept.items = mem_grow(steps->kept.items, steps->kept.count + 1, sizeof steps->kept.items[0]);
    struct kept_frame *kept = &steps->kept.items[steps->kept.count++];
    codec_copy(&mesh_frame_codec, frame, &kept->frame);
    text_copy(kept->pin, sizeof kept->pin, pin);
    kept->until_ns = now_ns + FRAME_KEPT_MS * NS_PER_MS;
}

bool steps_frame(struct steps *steps, const struct mesh_frame *frame, const char *pin)
{
    struct step_process *process = process_of(steps, frame->uid, frame->generation);
    if (process != NULL && !credible(process, frame, pin)) {
        log_warn("a frame for job %s with a wrong secret or node rank, or not by the key of the node it names, is dropped",
                 process->spec.job.name);
        return false;
    }
    if (process != NULL && process->connected)
        deliver(process, frame);
    else if (process == NULL || !process->dead)
        keep(steps, frame, pin);
    return process != NULL;
}

void kept_flush(struct step_process *process)
{
    struct steps *steps = process->steps;
    for (size_t i = 0; i < steps->kept.count;) {
        struct mesh_frame *frame = &steps->kept.items[i].frame;
        if (frame->generation != process->spec.generation || strcmp(frame->uid, process->spec.uid) != 0) {
            i++;
            continue;
        }
        if (credible(process, frame, steps->kept.items[i].pin))
            deliver(process, frame);
        kept_remove(steps, i);
    }
}

void steps_peers(struct steps *steps, const struct assignment *assignment)
{
    struct step_process *process = process_of(steps, assignment->uid, assignment->generation);
    if (process == NULL || assignment->run != RUN_START || assignment->peers.count != process->spec.peers.count)
        return;
    for (size_t i = 0; i < assignment->peers.count; i++)
        process->spec.peers.items[i] = assignment->peers.items[i]; /* plain bytes, nothing owned */
}

/* ---- after a restart of the agent ---- */

/* Of a directory whose spec cannot be read. As a rule an agent died while it wrote it, and no step was started. But if one
 * runs it can be neither spoken to nor, later, fenced: it must not train on beside the next generation. */
static void give_up_dir(struct steps *steps, const char *dir)
{
    char uid[TIDE_UID_CHARS + 1], group[2 * TIDE_PATH_MAX] = "";
    uint64_t generation = 0, until_ns = clock_mono_ns() + GIVE_UP_MS * NS_PER_MS;
    bool named = generation_parse(strrchr(dir, '/') + 1, uid, &generation), alive = true;
    if (named && steps->dirs->cgroup[0] != '\0')
        snprintf(group, sizeof group, STEP_CGROUP_FORMAT, steps->dirs->cgroup, uid, (unsigned long long)generation);
    for (;;) {
        alive = procs_kill_step(dir);
        if (group[0] != '\0' && cgroup_populated(group)) {
            cgroup_kill(group);
            alive = true;
        }
        alive = (named && procs_kill(uid, generation, UINT64_MAX, steps->node) > 0) || alive;
        if (!alive || clock_mono_ns() >= until_ns)
            break;
        poll(NULL, 0, STEP_GONE_CHECK_MS);
    }
    if (alive)
        log_error("processes of %s do not die; end them by hand", dir);
    else if (group[0] != '\0')
        cgroup_remove(group);
    fsx_remove_tree(dir, NULL);
}

enum tide_status spec_read(const char *dir, struct step_spec *ret_spec, struct err *err)
{
    char path[TIDE_PATH_MAX + 64], *data = NULL;
    size_t bytes = 0;
    snprintf(path, sizeof path, "%s/" STEP_SPEC_FILE, dir);
    enum tide_status status = fsx_read(path, SPEC_BYTES_MAX, &data, &bytes, err);
    if (status == TIDE_OK)
        status = codec_parse(&step_spec_codec, data, bytes, CODEC_LENIENT, ret_spec, err);
    mem_free(data);
    return status;
}

static void adopt_dir(struct steps *steps, const char *dir)
{
    struct step_spec spec;
    struct err err = {0};
    if (spec_read(dir, &spec, &err) != TIDE_OK) {
        log_warn("%s is no step's directory and is removed: %.300s", dir, err.text);
        give_up_dir(steps, dir);
        return;
    }
    struct step_process *process = process_make(steps, &spec);
    log_info("job %s, generation %llu: step found again", process->spec.job.name, (unsigned long long)process->spec.generation);
    process_found(process);
    process_adopt(process);
    if (!process->dead)
        process_look(process);
}

void steps_adopt(struct steps *steps)
{
    DIR *dir = opendir(steps->dirs->steps);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        char path[TIDE_PATH_MAX + 1];
        if (entry->d_name[0] == '.')
            continue;
        int n = snprintf(path, sizeof path, "%s/%s", steps->dirs->steps, entry->d_name);
        if (n > 0 && n <= TIDE_PATH_MAX)
            adopt_dir(steps, path);
    }
    if (dir != NULL)
        closedir(dir);
}
