/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/shell.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/rpc/shell_inner.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/stage/helpers.h"
#include "ckpt/wire/identity.h"

#define QUEUE_ROOM_FIRST 16u
#define END_EXTRA_MS 5000u /* beyond the longest grace, when told to end with the steps */
#define CLOSE_TURNS_MAX 100u
#define FILES_WANTED 65536u

/* ---- events ---- */

static void enqueue(struct shell *shell, const struct agent_event *event)
{
    /* What an action answers at once carries no borrowed pointers. */
    assert(event->health == NULL && event->desired == NULL && event->spec == NULL && event->step_status == NULL && event->held == NULL);
    if (shell->queued == shell->queue_room) {
        shell->queue_room = shell->queue_room ? shell->queue_room * 2 : QUEUE_ROOM_FIRST;
        shell->queue = mem_grow(shell->queue, shell->queue_room, sizeof shell->queue[0]);
    }
    shell->queue[shell->queued++] = *event;
}

static void look_in_time(struct shell *shell);

static void step_and_perform(struct shell *shell, const struct agent_event *event)
{
    agent_actions_clear(&shell->actions);
    agent_step(shell->core, event, clock_mono_ns(), &shell->actions);
    for (size_t i = 0; i < shell->actions.count; i++)
        perform(shell, &shell->actions.items[i]);
}

static void on_look(uv_timer_t *timer)
{
    struct shell *shell = timer->data;
    shell->look_ms = 0;
    steps_look(shell->steps);
    look_in_time(shell);
}

/* One look after the other, as often as the core wants them now. */
static void look_in_time(struct shell *shell)
{
    uint64_t ms = agent_look_ms(shell->core);
    if (ms == 0 || (shell->look_ms != 0 && shell->look_ms <= ms))
        return;
    shell->look_ms = ms;
    uv_timer_start(&shell->look, on_look, ms, 0);
}

void shell_event(struct shell *shell, const struct agent_event *event)
{
    if (shell->busy) {
        enqueue(shell, event);
        return;
    }
    shell->busy = true;
    step_and_perform(shell, event);
    for (size_t i = 0; i < shell->queued; i++) {
        struct agent_event next = shell->queue[i];
        step_and_perform(shell, &next);
    }
    shell->queued = 0;
    shell->busy = false;
    look_in_time(shell);
}

/* ---- hooks ---- */

static void on_step_event(void *context, const struct agent_event *event)
{
    shell_event(context, event);
}

static void on_step_mesh(void *context, const struct step_spec *spec, const struct mesh_frame *frame)
{
    struct shell *shell = context;
    if (frame->to >= spec->peers.count || frame->to == spec->node_rank) {
        log_warn("job %s: a frame for node rank %u, which is none of %zu peers, is dropped", spec->job.name, frame->to,
                 spec->peers.count);
        return;
    }
    const struct peer *peer = &spec->peers.items[frame->to];
    mesh_send(shell->mesh, peer->address, peer->mesh_port, peer->pin, frame);
}

static bool on_frame(void *context, const struct mesh_frame *frame, const char *pin)
{
    return steps_frame(((struct shell *)context)->steps, frame, pin);
}

static void on_work(void *context, const struct agent_event *event)
{
    shell_event(context, event);
}

static bool on_log_running(void *context, const char *uid, uint64_t generation)
{
    return steps_running(((struct shell *)context)->steps, uid, generation);
}

static enum coord_history on_history(void *context, const char *cluster, uint64_t epoch)
{
    const struct shell *shell = context;
    if (strcmp(cluster, shell->dirs.cluster) != 0 || epoch == shell->dirs.epoch)
        return COORD_SAME;
    return epoch_stale(epoch, shell->dirs.epoch) ? COORD_LEFT_BEHIND : COORD_LATER;
}

static bool on_welcomed(void *context, const struct node_welcome *welcome, uint64_t epoch)
{
    struct shell *shell = context;
    struct err err = {0};
    bool other = shell->dirs.cluster[0] != '\0' && strcmp(shell->dirs.cluster, welcome->cluster) != 0;
    if (other && !agent_idle(shell->core)) {
        log_error("the coordinator belongs to cluster %s, the jobs running here to %s: nothing is taken from it; bring back the "
                  "coordinator's data, or end the jobs and remove %s/cluster.uid", welcome->cluster, shell->dirs.cluster,
                  shell->dirs.state);
        return false;
    }
    if (other)
        log_warn("this node belonged to cluster %s and joins %s: nothing runs here", shell->dirs.cluster, welcome->cluster);
    if (dirs_join(&shell->dirs, welcome->cluster, epoch, &err) != TIDE_OK) {
        log_error("%s", err.text);
        return false;
    }
    log_info("node %s joined cluster %s", shell->options.name, welcome->cluster);
    watch_above(shell->watch, welcome->health_serial); /* before the first heartbeat */
    struct agent_event event = {.kind = EV_REGISTERED};
    text_copy(event.cluster, sizeof event.cluster, welcome->cluster);
    shell_event(shell, &event);
    return true;
}

static void on_refused(void *context, const char *why)
{
    struct shell *shell = context;
    text_copy(shell->refusal, sizeof shell->refusal, why);
    uv_stop(&shell->loop);
}

static void on_desired(void *context, const struct desired *desired)
{
    struct shell *shell = context;
    log_debug("desired state of revision %llu: %zu jobs", (unsigned long long)desired->revision, desired->jobs.count);
    for (size_t i = 0; i < desired->jobs.count; i++)
        steps_peers(shell->steps, &desired->jobs.items[i]);
    watch_forgive(shell->watch, desired->forgiven);
    shell_event(shell, &(struct agent_event){.kind = EV_DESIRED, .desired = desired});
}

static char *on_heartbeat(void *context)
{
    struct shell *shell = context;
    struct heartbeat heartbeat;
    /* Nothing said may be older than the beat itself. */
    steps_look(shell->steps);
    agent_heartbeat(shell->core, clock_mono_ns(), &heartbeat);
    heartbeat.keyed = shell->port_key.pin[0] != '\0';
    char *body = codec_print(&heartbeat_codec, &heartbeat, CODEC_COMPACT);
    codec_release(&heartbeat_codec, &heartbeat);
    return body;
}

static uint64_t on_revision(void *context)
{
    return agent_revision(((struct shell *)context)->core);
}

/* ---- timers and signals ---- */

static void on_health(void *context)
{
    struct shell *shell = context;
    struct health_report report;
    watch_report(shell->watch, &report);
    shell_event(shell, &(struct agent_event){.kind = EV_HEALTH, .health = &report});
    codec_release(&health_report_codec, &report);
}

static void on_tick(uv_timer_t *timer)
{
    struct shell *shell = timer->data;
    int32_t pids[TIDE_LOCAL_RANKS_MAX];
    size_t still = 0, count = agent_ranks(shell->core, clock_mono_ns(), pids, TIDE_LOCAL_RANKS_MAX, &still);
    watch_ranks(shell->watch, pids, count, still);
    helpers_ranks((unsigned)count, (unsigned)agent_ranks_restoring(shell->core));
    if (shell->scrub != NULL)
        scrub_rest(shell->scrub, work_stores(shell->work));
    shell_event(shell, &(struct agent_event){.kind = EV_TICK});
    if (shell->ending && (agent_steps_left(shell->core) == 0 || clock_mono_ns() >= shell->end_by_ns))
        uv_stop(&shell->loop);
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct shell *shell = signal->data;
    size_t left = agent_steps_left(shell->core);
    if (!shell->options.kill_on_exit || left == 0) {
        log_info("signal %d: this agent ends; %zu steps keep running", number, left);
        uv_stop(&shell->loop);
        return;
    }
    if (shell->ending)
        return;
    log_info("signal %d: ending %zu steps first", number, left);
    shell->ending = true;
    shell->end_by_ns = clock_mono_ns() + (agent_grace_ms(shell->core) + END_EXTRA_MS) * NS_PER_MS;
    agent_end_all(shell->core);
    shell_event(shell, &(struct agent_event){.kind = EV_TICK});
}

/* ---- life ---- */

/* Two connections for every node of a job, and a few descriptors for each of its ranks. */
static void raise_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= FILES_WANTED)
        return;
    limit.rlim_cur = limit.rlim_max < FILES_WANTED ? limit.rlim_max : FILES_WANTED;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        log_warn("no more than the usual number of files can be open");
}

static void make_core(struct shell *shell)
{
    struct agent_identity identity = {0};
    struct rng rng = {rng_entropy()};
    text_copy(identity.node, sizeof identity.node, shell->options.name);
    text_copy(identity.uid, sizeof identity.uid, shell->dirs.uid);
    rng_hex(&rng, identity.incarnation, TIDE_UID_CHARS);
    text_copy(identity.cluster, sizeof identity.cluster, shell->dirs.cluster);
    shell->core = agent_create(&identity);
    agent_scrub_every(shell->core, shell->options.scrub_rate > 0 ? shell->options.scrub_every_s * MS_PER_S : 0);
    agent_hang_after(shell->core, shell->options.hang_ms);
    struct node_hello *hello = &shell->hello;
    text_copy(hello->name, sizeof hello->name, identity.node);
    text_copy(hello->uid, sizeof hello->uid, identity.uid);
    text_copy(hello->incarnation, sizeof hello->incarnation, identity.incarnation);
    text_copy(hello->host, sizeof hello->host, shell->options.host);
    text_copy(hello->address, sizeof hello->address, shell->options.address);
    hello->slots = shell->options.slots;
    text_copy(hello->pin, sizeof hello->pin, shell->port_key.pin);
    text_copy(hello->domain, sizeof hello->domain, shell->options.domain);
}

static const char *on_slot_token(void *context, const char *uid)
{
    return agent_token(((struct shell *)context)->core, uid);
}

/* The ports asked for; those of last time; any. */
static enum tide_status listen_ports(struct shell *shell, struct err *err)
{
    uint32_t mesh = 0, log = 0;
    const char *address = shell->options.address;
    const struct port_key *key = shell->port_key.pin[0] != '\0' ? &shell->port_key : NULL;
    const struct slot_access slots = {
        .across = work_across(shell->work), .arenas = shell->dirs.arena, .token = on_slot_token, .context = shell};
    host_ports_load(&shell->dirs, &mesh, &log);
    shell->hello.mesh_port = shell->options.mesh_port ? shell->options.mesh_port : mesh;
    shell->hello.log_port = shell->options.log_port ? shell->options.log_port : log;
    enum tide_status status = mesh_create(&shell->loop, address, &shell->hello.mesh_port, key, on_frame, shell, &shell->mesh, err);
    if (status != TIDE_OK && shell->options.mesh_port == 0 && shell->hello.mesh_port != 0) {
        shell->hello.mesh_port = 0;
        status = mesh_create(&shell->loop, address, &shell->hello.mesh_port, key, on_frame, shell, &shell->mesh, err);
    }
    if (status != TIDE_OK)
        return status;
    status = log_server_create(&shell->loop, shell->dirs.logs, address, &shell->hello.log_port, key, on_log_running, shell, &slots,
                               &shell->log_server, err);
    if (status != TIDE_OK && shell->options.log_port == 0 && shell->hello.log_port != 0) {
        shell->hello.log_port = 0;
        status = log_server_create(&shell->loop, shell->dirs.logs, address, &shell->hello.log_port, key, on_log_running, shell, &slots,
                                   &shell->log_server, err);
    }
    if (status == TIDE_OK)
        host_ports_save(&shell->dirs, shell->hello.mesh_port, shell->hello.log_port);
    return status;
}

static enum tide_status make_coord(struct shell *shell, struct err *err)
{
    struct coord_hooks hooks = {
        .context = shell,
        .welcomed = on_welcomed,
        .history = on_history,
        .refused = on_refused,
        .desired = on_desired,
        .heartbeat = on_heartbeat,
        .revision = on_revision,
    };
    enum tide_status status = http_client_init(&shell->http, &shell->loop, &shell->creds.http, err);
    return status != TIDE_OK ? status
                             : coord_create(&shell->http, shell->options.coordinators, &shell->creds, &shell->hello, &hooks,
                                            &shell->coord, err);
}

/* Its first report: the leader hears that somebody looks. */
static void start_watch(struct shell *shell)
{
    struct watch_options options = {.probes = shell->options.probes,
                                    .nics = shell->options.nics,
                                    .address = shell->options.address,
                                    .hang_ms = shell->options.hang_ms,
                                    .disks = {shell->dirs.state, shell->dirs.arena}};
    shell->watch = watch_create(&shell->loop, &options, on_health, shell);
    if (shell->options.probes != 0)
        on_health(shell);
}

static void start_timers(struct shell *shell)
{
    uv_timer_init(&shell->loop, &shell->tick);
    uv_timer_init(&shell->loop, &shell->look);
    uv_signal_init(&shell->loop, &shell->term);
    uv_signal_init(&shell->loop, &shell->interrupt);
    shell->tick.data = shell->look.data = shell->term.data = shell->interrupt.data = shell;
    uv_timer_start(&shell->tick, on_tick, AGENT_TICK_MS, AGENT_TICK_MS);
    uv_signal_start(&shell->term, on_signal, SIGTERM);
    uv_signal_start(&shell->interrupt, on_signal, SIGINT);
}

/* The members that the identity names, when no others are. */
static enum tide_status find_coordinators(struct shell *shell, struct err *err)
{
    const struct identity *identity = &shell->creds.idir.identity;
    char *to = shell->options.coordinators;
    size_t size = sizeof shell->options.coordinators;
    for (size_t i = 0, n = strlen(to); n == 0 && i < identity->members.count; i++) {
        size_t used = strlen(to);
        snprintf(to + used, size - used, "%s%s", i ? "," : "", identity->members.items[i].api);
    }
    if (to[0] == '\0')
        return err_set(err, TIDE_E_INVALID, "no coordinator is named; say --coordinator https://host:port");
    if ((creds_want_ca(&shell->creds) || shell->creds.http.cert_file != NULL) && strstr(to, "http://") != NULL)
        return err_set(err, TIDE_E_INVALID, "an identity and a join token are for https:// coordinators; \"%.200s\" has others", to);
    return TIDE_OK;
}

/* Where coordinators are reached by TLS, agents are. Without it all of them are on one host. */
static enum tide_status load_port_key(struct shell *shell, struct err *err)
{
    char file[TIDE_PATH_MAX + 16];
    if (strstr(shell->options.coordinators, "https://") == NULL)
        return TIDE_OK;
    snprintf(file, sizeof file, "%s/port.key", shell->dirs.state);
    return port_key_load(file, &shell->port_key, err);
}

static enum tide_status open_all(struct shell *shell, struct err *err)
{
    const char *arena = shell->options.arena[0] != '\0' ? shell->options.arena : NULL;
    enum tide_status status =
        creds_load(shell->options.identity, shell->options.join, shell->options.name, &shell->creds, err);
    if (status == TIDE_OK)
        status = find_coordinators(shell, err);
    if (status == TIDE_OK)
        status = host_fill(&shell->options, err);
    if (status == TIDE_OK)
        status = dirs_open(shell->options.state, arena, &shell->dirs, err);
    if (status == TIDE_OK)
        status = load_port_key(shell, err);
    if (status != TIDE_OK)
        return status;
    if (shell->options.arena_bytes_max == 0)
        shell->options.arena_bytes_max = host_arena_max(shell->dirs.arena);
    make_core(shell);
    struct steps_hooks hooks = {.context = shell, .event = on_step_event, .mesh = on_step_mesh};
    shell->steps = steps_create(&shell->loop, &shell->dirs, shell->options.name, shell->options.step, &hooks);
    raise_files();
    shell->work = work_create(&shell->loop, on_work, shell);
    if (shell->options.scrub_rate > 0)
        shell->scrub = scrub_create(&shell->loop, shell->options.scrub_rate, on_work, shell);
    work_arenas(shell->work, shell->dirs.arena, shell->options.arena_bytes_max);
    work_share(shell->work, shell->options.share_nodes);
    helpers_want(shell->options.encode_helpers);
    status = listen_ports(shell, err);
    return status != TIDE_OK ? status : make_coord(shell, err);
}

static void close_rest(uv_handle_t *handle, void *context)
{
    (void)context;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* What is open is closed in the reverse order. False: a worker still runs; it is left to the end of the process, and so is the
 * loop that it will report to. */
static bool close_all(struct shell *shell)
{
    bool watched = shell->watch == NULL || watch_close(shell->watch);
    scrub_close(shell->scrub);
    if (shell->work != NULL)
        work_close(shell->work);
    if (shell->coord != NULL)
        coord_close(shell->coord);
    if (shell->http.multi != NULL)
        http_client_close(&shell->http);
    if (shell->log_server != NULL)
        log_server_close(shell->log_server);
    if (shell->mesh != NULL)
        mesh_close(shell->mesh);
    if (shell->steps != NULL)
        steps_close(shell->steps);
    for (unsigned i = 0; i < CLOSE_TURNS_MAX && uv_run(&shell->loop, UV_RUN_NOWAIT) != 0; i++)
        uv_walk(&shell->loop, close_rest, NULL);
    bool quiet = uv_loop_close(&shell->loop) == 0 && watched;
    quiet = scrub_free(shell->scrub) && quiet;
    if (watched)
        watch_free(shell->watch);
    coord_free(shell->coord);
    if (shell->work != NULL)
        work_free(shell->work);
    if (shell->log_server != NULL)
        log_server_free(shell->log_server);
    if (shell->mesh != NULL)
        mesh_free(shell->mesh);
    if (shell->steps != NULL)
        steps_free(shell->steps);
    creds_release(&shell->creds);
    port_key_release(&shell->port_key);
    agent_free(shell->core);
    agent_actions_release(&shell->actions);
    mem_free(shell->queue);
    if (shell->dirs.state[0] != '\0')
        dirs_close(&shell->dirs);
    return quiet;
}

enum tide_status shell_run(const struct shell_options *options, bool *ret_hung, struct err *err)
{
    struct shell *shell = mem_alloc(sizeof *shell);
    shell->options = *options;
    setenv("UV_THREADPOOL_SIZE", WORK_THREADS, 1);
    signal(SIGPIPE, SIG_IGN);
    uv_loop_init(&shell->loop);
    enum tide_status status = open_all(shell, err);
    if (status == TIDE_OK) {
        start_watch(shell);
        start_timers(shell);
        /* All that an earlier agent left is known before the first heartbeat: it must not deny what is here. */
        arenas_found(shell);
        steps_adopt(shell->steps);
        coord_start(shell->coord);
        log_info("node %s (%s): address %s, mesh port %u, log port %u, %u slots, state in %s", options->name, shell->dirs.uid,
                 shell->options.address, shell->hello.mesh_port, shell->hello.log_port, shell->options.slots, shell->dirs.state);
        uv_run(&shell->loop, UV_RUN_DEFAULT);
        if (shell->refusal[0] != '\0')
            status = err_set(err, TIDE_E_CONFLICT, "the coordinator refuses this node: %.900s", shell->refusal);
    }
    *ret_hung = !close_all(shell);
    if (!*ret_hung)
        mem_free(shell);
    return status;
}
