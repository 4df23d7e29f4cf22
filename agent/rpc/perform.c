/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/rpc/logs.h"
#include "agent/rpc/shell_inner.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "ckpt/stage/copy.h"

#define ARENA_MODE 0755
#define LOGS_MODE 0755
#define LOG_BYTES_MAX (UINT64_C(16) << 20)
#define GONE_PREFIX ".gone."

/* ---- starting ---- */

static enum tide_status prepare_places(struct shell *shell, const struct assignment *order, struct step_spec *spec, struct err *err)
{
    enum tide_status status = dirs_step(&shell->dirs, order->uid, order->generation, spec->dir, err);
    if (status == TIDE_OK)
        status = dirs_arena(&shell->dirs, order->uid, spec->arena, err);
    if (status == TIDE_OK)
        status = dirs_log(&shell->dirs, order->spec.name, order->uid, order->generation, spec->logs, err);
    if (status == TIDE_OK)
        status = fsx_mkdirs(spec->arena, ARENA_MODE, err);
    if (status == TIDE_OK)
        status = fsx_mkdirs(spec->logs, LOGS_MODE, err);
    if (status == TIDE_OK && order->log_key[0] != '\0')
        status = logs_key_save(shell->dirs.logs, order->spec.name, order->uid, order->log_key, err);
    struct arena_note note = {.generation = order->generation};
    text_copy(note.job, sizeof note.job, order->spec.name);
    /* Before anything of the generation runs: so an agent that comes back never starts it a second time. */
    if (status == TIDE_OK)
        status = begun_note(&shell->dirs, order->uid, order->generation, err);
    if (status == TIDE_OK)
        status = arena_note_write(spec->arena, &note, err);
    return status;
}

/* Jobs share the arena by the ranks they run. */
static uint64_t arena_share(const struct shell *shell, const struct job_spec *job)
{
    uint64_t all = shell->options.arena_bytes_max;
    if (job->nproc_per_node >= shell->options.slots)
        return all;
    return all / shell->options.slots * job->nproc_per_node;
}

static void fill_spec(const struct shell *shell, const struct assignment *order, struct step_spec *spec)
{
    codec_copy(&job_spec_codec, &order->spec, &spec->job);
    text_copy(spec->uid, sizeof spec->uid, order->uid);
    spec->generation = order->generation;
    text_copy(spec->node, sizeof spec->node, shell->options.name);
    text_copy(spec->host, sizeof spec->host, shell->options.host);
    text_copy(spec->address, sizeof spec->address, shell->options.address);
    spec->node_rank = order->node_rank;
    for (size_t i = 0; i < order->peers.count; i++) {
        struct peer *peer = codec_list_add(&peer_codec, &spec->peers);
        *peer = order->peers.items[i];
    }
    text_copy(spec->token, sizeof spec->token, order->token);
    text_copy(spec->master_address, sizeof spec->master_address, order->master_address);
    spec->master_port = order->master_port;
    spec->restarts = order->restarts;
    spec->arena_bytes_max = arena_share(shell, &order->spec);
    spec->log_bytes_max = LOG_BYTES_MAX;
    text_copy(spec->cgroup, sizeof spec->cgroup, shell->dirs.cgroup);
}

static bool is_running(void *context, const char *uid)
{
    return steps_running_any(((struct shell *)context)->steps, uid);
}

static void start_step(struct shell *shell, const struct agent_action *action)
{
    const struct assignment *order = action->order;
    struct agent_event event = {.kind = EV_STEP_STARTED, .generation = action->generation};
    text_copy(event.uid, sizeof event.uid, action->uid);
    struct step_spec spec = {0};
    struct err err = {0};
    fill_spec(shell, order, &spec);
    /* uids become parts of paths: an order with anything else in them is not followed. */
    enum tide_status status = TIDE_OK;
    if (!uid_valid(order->uid))
        status = err_set(&err, TIDE_E_INVALID, "\"%.20s\" is no job uid", order->uid);
    if (status == TIDE_OK)
        status = prepare_places(shell, order, &spec, &err);
    if (status == TIDE_OK)
        status = action->from != 0 ? steps_go_over(shell->steps, action->from, &spec, &err) : steps_start(shell->steps, &spec, &err);
    if (status == TIDE_OK) {
        log_info("job %s: generation %llu starts here as node rank %u, %u ranks%s", order->spec.name,
                 (unsigned long long)order->generation, order->node_rank, order->spec.nproc_per_node,
                 action->from != 0 ? ", some of which stay" : "");
        logs_prune(shell->dirs.logs, order->spec.name, order->uid, is_running, shell);
    } else {
        event.kind = EV_STEP_FAILED;
        event.status = status;
        text_fit(event.text, sizeof event.text, err.text);
    }
    codec_release(&step_spec_codec, &spec);
    shell_event(shell, &event);
}

/* ---- arenas ---- */

struct removal {
    uv_work_t request;
    char path[TIDE_PATH_MAX + 64];
};

static void on_removal(uv_work_t *request)
{
    struct removal *removal = request->data;
    struct err err = {0};
    if (fsx_remove_tree(removal->path, &err) != TIDE_OK)
        log_warn("%s", err.text);
}

static void on_removed(uv_work_t *request, int status)
{
    (void)status;
    mem_free(request->data);
}

/* Giving back gigabytes takes a while: under another name, on a worker thread. */
static void remove_arena(struct shell *shell, const char *uid)
{
    static unsigned number;
    char path[TIDE_PATH_MAX + 1];
    struct removal *removal = mem_alloc(sizeof *removal);
    begun_forget(&shell->dirs, uid);
    snprintf(removal->path, sizeof removal->path, "%s/" GONE_PREFIX "%s.%u", shell->dirs.arena, uid, number++);
    if (!uid_valid(uid) || dirs_arena(&shell->dirs, uid, path, NULL) != TIDE_OK || rename(path, removal->path) != 0) {
        struct err err;
        if (errno != ENOENT && err_errno(&err, "cannot remove the arena of job %s", uid) != TIDE_OK)
            log_warn("%s", err.text);
        mem_free(removal);
        return;
    }
    removal->request.data = removal;
    uv_queue_work(&shell->loop, &removal->request, on_removal, on_removed);
}

static void arena_found(struct shell *shell, const char *path, const char *uid)
{
    struct arena_note note;
    struct err err = {0};
    enum tide_status status = uid_valid(uid) ? arena_note_read(path, &note, &err) : TIDE_E_NOT_FOUND;
    if (status == TIDE_E_NOT_FOUND || status == TIDE_E_INVALID) {
        log_info("%s is no job's arena any more and is removed", path);
        fsx_remove_tree(path, NULL);
        return;
    }
    if (status != TIDE_OK) { /* nothing is known to be wrong with it */
        log_error("%s is passed over: %s", path, err.text);
        return;
    }
    struct agent_held *held = NULL, *copies = NULL;
    char copies_path[TIDE_PATH_MAX + 32];
    struct agent_event event = {.kind = EV_ARENA_FOUND, .generation = note.generation};
    snprintf(copies_path, sizeof copies_path, "%s/" COPY_DIR, path);
    text_copy(event.uid, sizeof event.uid, uid);
    text_copy(event.job, sizeof event.job, note.job);
    work_look(path, uid, &held, &event.held_count);
    work_look(copies_path, uid, &copies, &event.copies_count);
    event.held = held;
    event.copies = copies;
    log_info("job %s: arena found again, %zu slots with a recorded cut, %zu copies of others", note.job, event.held_count,
             event.copies_count);
    shell_event(shell, &event);
    mem_free(held);
    mem_free(copies);
}

static void begun_found(void *context, const char *uid, uint64_t generation)
{
    struct agent_event event = {.kind = EV_ARENA_FOUND, .generation = generation};
    text_copy(event.uid, sizeof event.uid, uid);
    shell_event(context, &event);
}

void arenas_found(struct shell *shell)
{
    begun_each(&shell->dirs, begun_found, shell);
    DIR *dir = opendir(shell->dirs.arena);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        char path[TIDE_PATH_MAX + 1];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        int n = snprintf(path, sizeof path, "%s/%s", shell->dirs.arena, entry->d_name);
        if (n > 0 && n <= TIDE_PATH_MAX)
            arena_found(shell, path, entry->d_name);
    }
    if (dir != NULL)
        closedir(dir);
}

/* ---- actions ---- */

static void arm(struct shell *shell, const struct agent_action *action)
{
    struct agent_event event = {.kind = EV_ARMED, .generation = action->generation, .rank = action->rank, .cut = action->cut,
                                .attempt = action->attempt};
    text_copy(event.uid, sizeof event.uid, action->uid);
    event.outcome = steps_arm(shell->steps, action, &event.step);
    shell_event(shell, &event);
}

/* A node that only has copies of a job has an arena of it, too; its note says that nothing was started. */
static void note_arena(const char *arena, const char *job)
{
    struct arena_note note;
    struct err err = {0};
    if (arena_note_read(arena, &note, NULL) != TIDE_E_NOT_FOUND)
        return;
    note = (struct arena_note){0};
    text_copy(note.job, sizeof note.job, job);
    enum tide_status status = fsx_mkdirs(arena, ARENA_MODE, &err);
    if (status == TIDE_OK)
        status = arena_note_write(arena, &note, &err);
    if (status != TIDE_OK)
        log_warn("an agent that is started again will not find the copies of job %s: %s", job, err.text);
}

static void work(struct shell *shell, const struct agent_action *action)
{
    char arena[TIDE_PATH_MAX + 1] = "";
    if (dirs_arena(&shell->dirs, action->uid, arena, NULL) != TIDE_OK)
        return;
    if (action->kind == ACT_COPY)
        note_arena(arena, action->job);
    work_start(shell->work, action, arena);
}

static void end_step(struct shell *shell, const struct agent_action *action)
{
    log_info("job %s: generation %llu is to end here%s", action->job, (unsigned long long)action->generation,
             action->grace_ms == 0 ? " at once" : "");
    steps_end(shell->steps, action->uid, action->generation, action->grace_ms);
}

void perform(struct shell *shell, const struct agent_action *action)
{
    if (action->kind != ACT_SAY && action->kind != ACT_HEARTBEAT)
        log_debug("%s job %s generation %llu rank %u cut %llu", agent_action_names[action->kind], action->job,
                  (unsigned long long)action->generation, action->rank, (unsigned long long)action->cut);
    switch (action->kind) {
    case ACT_HEARTBEAT:
        coord_beat_now(shell->coord);
        break;
    case ACT_SAY:
        log_at((enum log_level)action->level, "%s", action->text);
        break;
    case ACT_START_STEP:
        start_step(shell, action);
        break;
    case ACT_END_STEP:
        end_step(shell, action);
        break;
    case ACT_LEAVE_STEP:
        log_info("job %s: generation %llu is over, and is to be left", action->job, (unsigned long long)action->generation);
        steps_leave(shell->steps, action->uid, action->generation);
        break;
    case ACT_KILL_STEP:
        steps_kill(shell->steps, action->uid, action->generation);
        break;
    case ACT_ANSWER:
        steps_answer(shell->steps, action->uid, action->generation, &action->answer);
        break;
    case ACT_WIDEN:
        steps_widen(shell->steps, action->uid, action->generation);
        break;
    case ACT_REMOVE_STEP_DIR:
        steps_remove_dir(shell->steps, action->uid, action->generation);
        break;
    case ACT_ARM:
        arm(shell, action);
        break;
    case ACT_DISARM:
        steps_disarm(shell->steps, action);
        break;
    case ACT_EPOCHS:
        steps_epochs(shell->steps, action);
        break;
    case ACT_SCRUB:
        scrub_start(shell->scrub, action);
        break;
    case ACT_REMOVE_ARENA:
        remove_arena(shell, action->uid);
        break;
    default:
        work(shell, action);
    }
}
