/* SPDX-License-Identifier: Apache-2.0 */
/* What goes wrong, and when it stops. Ten times a second every enabled lie gets its chance. */
#include "tests/sim/sim.h"

#define MISCHIEF_MS 100u
#define SIGNAL_KILL 9

static struct host *some_host(struct world *w)
{
    return &w->hosts[rng_below(&w->rng, w->host_count)];
}

/* A rank that runs somewhere; NULL if none was met. */
static struct rank_model *some_rank(struct world *w, struct host **ret_host, struct step_model **ret_step)
{
    struct host *h = some_host(w);
    size_t from = rng_below(&w->rng, STEPS_MAX);
    for (size_t i = 0; i < STEPS_MAX; i++) {
        struct step_model *step = &h->steps[(from + i) % STEPS_MAX];
        if (!step->there || !step->alive)
            continue;
        struct rank_model *rank = &step->ranks[rng_below(&w->rng, step->rank_count)];
        *ret_host = h;
        *ret_step = step;
        return rank->alive ? rank : NULL;
    }
    return NULL;
}

static void hurt_rank(struct world *w)
{
    struct host *h;
    struct step_model *step;
    struct rank_model *rank = some_rank(w, &h, &step);
    if (rank != NULL) {
        bool by_itself = chance(w, 200000);
        rank_end(w, h, step, rank, by_itself ? 1 : 0, by_itself ? 0 : SIGNAL_KILL);
    }
}

static void rank_gives_up(struct world *w)
{
    struct host *h;
    struct step_model *step;
    struct rank_model *rank = some_rank(w, &h, &step);
    if (rank == NULL)
        return;
    truth_of(w, step->uid)->exit93 = true;
    rank_end(w, h, step, rank, TIDE_EXIT_DO_NOT_RESTART, 0);
}

static void wake_gang(struct world *w, struct args *args)
{
    gang_go(w, args->uid, args->generation);
}

static void hang_rank(struct world *w)
{
    struct host *h;
    struct step_model *step;
    struct rank_model *rank = some_rank(w, &h, &step);
    if (rank == NULL || rank->hung_until > w->now)
        return;
    rank->hung_until = w->now + between(w, MS(300), SECONDS(6));
    trace(w, "%s rank %u hangs", h->name, rank->rank);
    if (!rank->moving && rank->ready)
        gang_go(w, step->uid, step->generation);
    struct args args = {.generation = step->generation};
    text_copy(args.uid, sizeof args.uid, step->uid);
    later(w, rank->hung_until - w->now, wake_gang, args);
}

static void agent_returns(struct world *w, struct args *args)
{
    agent_boot(w, &w->hosts[args->host]);
}

static void hurt_agent(struct world *w)
{
    struct host *h = some_host(w);
    if (!h->agent_up)
        return;
    agent_crash(w, h);
    uint64_t away = chance(w, 700000) ? between(w, MS(20), MS(1500)) : between(w, SECONDS(2), SECONDS(12));
    later(w, away, agent_returns, (struct args){.host = host_index(w, h)});
}

static void hurt_step(struct world *w)
{
    struct host *h;
    struct step_model *step;
    if (some_rank(w, &h, &step) == NULL)
        return;
    trace(w, "%s step process of gen %" PRIu64 " killed", h->name, step->generation);
    step_kill(w, h, step);
}

static void stop_agent(struct world *w)
{
    struct host *h = some_host(w);
    if (!h->agent_up || h->stopped_until > w->now)
        return;
    h->stopped_until = w->now + between(w, MS(200), SECONDS(8));
    trace(w, "agent of %s is stopped", h->name);
}

static void host_returns(struct world *w, struct args *args)
{
    if (!w->hosts[args->host].up)
        host_boot(w, &w->hosts[args->host]);
}

static void hurt_host(struct world *w)
{
    struct host *h = some_host(w);
    if (!h->up)
        return;
    host_lose(w, h, chance(w, 200000));
    uint64_t away = chance(w, 400000) ? between(w, MS(200), MS(1800)) : between(w, SECONDS(3), SECONDS(25));
    later(w, away, host_returns, (struct args){.host = host_index(w, h)});
}

static void partition(struct world *w)
{
    struct host *h = some_host(w);
    uint64_t until = w->now + (chance(w, 500000) ? between(w, MS(100), MS(1900)) : between(w, SECONDS(2), SECONDS(15)));
    uint64_t kind = rng_below(&w->rng, 4); /* mostly both ways, sometimes only one */
    if (kind != 1)
        h->to_leader_cut_until = until;
    if (kind != 2)
        h->from_leader_cut_until = until;
    trace(w, "%s cannot talk to the coordinator, way %" PRIu64, h->name, kind);
}

static struct coord *some_coord(struct world *w)
{
    struct coord *leader = coord_in_office(w);
    return leader != NULL && chance(w, 500000) ? leader : &w->coords[rng_below(&w->rng, w->coord_count)];
}

static void coord_returns(struct world *w, struct args *args)
{
    coord_boot(w, &w->coords[args->coord]);
}

static void kill_coord(struct world *w, struct coord *c)
{
    uint64_t away = chance(w, 700000) ? between(w, MS(50), MS(1000)) : between(w, SECONDS(1), SECONDS(10));
    if (!c->up)
        return;
    coord_crash(w, c);
    later(w, away, coord_returns, (struct args){.coord = c->slot});
}

/* Now and then all of them: the power is gone. */
static void hurt_leader(struct world *w)
{
    bool all = chance(w, 100000);
    struct coord *one = some_coord(w);
    for (uint32_t i = 0; i < w->coord_count; i++)
        if (all || one == &w->coords[i])
            kill_coord(w, &w->coords[i]);
}

static void stop_leader(struct world *w)
{
    struct coord *c = some_coord(w);
    if (c->up && c->paused_until <= w->now)
        coord_pause(w, c, chance(w, 700000) ? between(w, MS(100), MS(1500)) : between(w, SECONDS(2), SECONDS(8)));
}

/* One member hears nobody, is heard by nobody, or both; or the group falls in two. */
static void part_leaders(struct world *w)
{
    uint64_t until = w->now + (chance(w, 700000) ? between(w, MS(100), MS(1500)) : between(w, SECONDS(2), SECONDS(10)));
    uint32_t one = some_coord(w)->slot;
    uint64_t kind = rng_below(&w->rng, 4), side = rng_below(&w->rng, 1u << COORDS_MAX);
    trace(w, "coordinator %u is cut off, way %" PRIu64, one + 1, kind);
    for (uint32_t a = 0; a < w->coord_count; a++)
        for (uint32_t b = 0; b < w->coord_count; b++)
            if (kind == 3 ? ((side >> a) & 1) != ((side >> b) & 1) : (a == one && kind != 1) || (b == one && kind != 2))
                w->coords[a].cut_until[b] = until;
}

static void spoil(struct world *w, const char *uid, uint64_t cut)
{
    struct job_truth *truth = truth_of(w, uid);
    if (truth != NULL && cut < CUTS_MAX)
        truth->cuts[cut].spoiled = true;
    trace(w, "a copy of cut %" PRIu64 " is spoiled", cut);
}

static void spoil_slot(struct world *w)
{
    struct arena *arena = &some_host(w)->arenas[rng_below(&w->rng, JOBS_MAX)];
    uint64_t rank = rng_below(&w->rng, WORLD_MAX), at = rng_below(&w->rng, SLOTS);
    struct slot_model *slot = chance(w, 300000) ? &arena->copies[rank][at] : &arena->slots[rank][at];
    if (!arena->there || slot->cut == 0 || !slot->summed || slot->content != slot->sum)
        return;
    slot->content ^= 1;
    spoil(w, arena->uid, slot->cut);
}

static void spoil_object(struct world *w)
{
    if (w->depot.count == 0)
        return;
    struct object *object = &w->depot.items[rng_below(&w->rng, w->depot.count)];
    object->corrupt = true;
    spoil(w, object->uid, object->cut);
}

static void break_store(struct world *w)
{
    w->depot.failing_until = w->now + between(w, MS(100), SECONDS(6));
    trace(w, "the store fails");
}

static void mischief(struct world *w, struct args *args)
{
    (void)args;
    if (w->healed)
        return;
    const struct lies *l = &w->lies;
    const struct {
        uint32_t rate;
        void (*fn)(struct world *w);
    } kinds[] = {{l->kill_rank, hurt_rank},      {l->exit93, rank_gives_up},     {l->hang_rank, hang_rank},
                 {l->kill_agent, hurt_agent},    {l->kill_step, hurt_step},      {l->stop_agent, stop_agent},
                 {l->lose_host, hurt_host},      {l->partition, partition},      {l->kill_leader, hurt_leader},
                 {l->stop_leader, stop_leader},  {l->part_leaders, part_leaders},
                 {l->store_fails, break_store},  {l->corrupt_slot, spoil_slot},  {l->corrupt_object, spoil_object},
                 {l->person, person_does_something}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && !w->stop; i++)
        if (chance(w, kinds[i].rate / (1000 / MISCHIEF_MS)))
            kinds[i].fn(w);
    later(w, MS(MISCHIEF_MS), mischief, (struct args){0});
}

void faults_begin(struct world *w)
{
    sick_begin(w);
    later(w, MS(MISCHIEF_MS), mischief, (struct args){0});
}

/* By now every drain that somebody asked for before has been heard. */
static void resume_all(struct world *w, struct args *args)
{
    (void)args;
    for (uint32_t i = 0; i < w->host_count; i++) {
        struct op op = {.kind = OP_RESUME};
        text_copy(op.node, sizeof op.node, w->hosts[i].name);
        person_asks(w, op);
    }
}

static void ask_all_again(struct world *w, struct args *args)
{
    (void)args;
    persons_ask_all_again(w);
}

void faults_heal(struct world *w)
{
    trace(w, "all is well again");
    w->healed = true;
    w->depot.failing_until = 0;
    for (uint32_t i = 0; i < w->coord_count; i++) {
        coord_boot(w, &w->coords[i]);
        w->coords[i].paused_until = 0;
        memset(w->coords[i].cut_until, 0, sizeof w->coords[i].cut_until);
    }
    for (uint32_t i = 0; i < w->host_count; i++) {
        struct host *h = &w->hosts[i];
        h->to_leader_cut_until = h->from_leader_cut_until = h->stopped_until = 0;
        if (!h->up)
            host_boot(w, h);
        else if (!h->agent_up)
            agent_boot(w, h);
    }
    later(w, SECONDS(8), resume_all, (struct args){0});
    later(w, SECONDS(10), ask_all_again, (struct args){0});
}
