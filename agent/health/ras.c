/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/health/ras.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"

/* One rank that is behind in one communicator, and how all of it stands: if nothing of that moves, it hangs. */
struct behind {
    const char *hash, *op;
    json_int_t rank, count, most;
};

static const char *text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static bool is_ours(json_t *rank, const struct ras_own *own)
{
    json_int_t pid = json_integer_value(json_object_get(rank, "pid"));
    bool here = false;
    for (size_t i = 0; i < own->address_count; i++)
        here = here || strcmp(text_of(rank, "host"), own->addresses[i]) == 0;
    if (!here)
        return false;
    for (size_t i = 0; i < own->pid_count; i++)
        if (own->pids[i] == pid)
            return true;
    return false;
}

/* How often the furthest rank of the communicator began that collective. */
static json_int_t most_of(json_t *ranks, const char *op)
{
    json_int_t most = 0;
    size_t i;
    json_t *rank;
    json_array_foreach(ranks, i, rank)
    {
        json_int_t count = json_integer_value(json_object_get(json_object_get(rank, "collective_counts"), op));
        most = count > most ? count : most;
    }
    return most;
}

/* Has it begun what others of that communicator have not? Then it waits there, and is behind elsewhere because of that. */
static bool waits_in(json_t *ranks, json_t *rank)
{
    const char *op;
    json_t *count, *other;
    size_t i;
    json_object_foreach(json_object_get(rank, "collective_counts"), op, count)
    {
        json_array_foreach(ranks, i, other)
        {
            if (json_integer_value(json_object_get(json_object_get(other, "collective_counts"), op)) < json_integer_value(count))
                return true;
        }
    }
    return false;
}

static bool waits_anywhere(json_t *root, json_t *who)
{
    size_t c, r;
    json_t *comm, *rank;
    json_array_foreach(json_object_get(root, "communicators"), c, comm)
    {
        json_t *ranks = json_object_get(comm, "ranks");
        json_array_foreach(ranks, r, rank)
        {
            bool same = json_equal(json_object_get(rank, "pid"), json_object_get(who, "pid")) &&
                        strcmp(text_of(rank, "host"), text_of(who, "host")) == 0;
            if (same && waits_in(ranks, rank))
                return true;
        }
    }
    return false;
}

static bool rank_behind(json_t *ranks, json_t *rank, struct behind *to)
{
    const char *op;
    json_t *count;
    json_object_foreach(json_object_get(rank, "collective_counts"), op, count)
    {
        json_int_t most = most_of(ranks, op);
        if (json_integer_value(count) >= most)
            continue;
        to->rank = json_integer_value(json_object_get(rank, "rank"));
        to->op = op;
        to->count = json_integer_value(count);
        to->most = most;
        return true;
    }
    return false;
}

/* The first of our ranks that is behind others of its communicator, and waits for nobody itself. */
static bool find_behind(json_t *root, const struct ras_own *own, struct behind *to)
{
    size_t c, r;
    json_t *comm, *rank;
    json_array_foreach(json_object_get(root, "communicators"), c, comm)
    {
        json_t *ranks = json_object_get(comm, "ranks");
        to->hash = text_of(comm, "hash");
        json_array_foreach(ranks, r, rank)
        {
            if (is_ours(rank, own) && rank_behind(ranks, rank, to) && !waits_anywhere(root, rank))
                return true;
        }
    }
    return false;
}

/* With several jobs on one host NCCL answers for whichever the kernel connects us to. */
static bool is_about(json_t *root, const char *hash)
{
    size_t c;
    json_t *comm;
    json_array_foreach(json_object_get(root, "communicators"), c, comm)
    {
        if (strcmp(text_of(comm, "hash"), hash) == 0)
            return true;
    }
    return false;
}

static void stands(struct ras_past *past, const struct behind *at, uint64_t now_ns)
{
    char key[sizeof past->key];
    snprintf(key, sizeof key, "%.40s %.24s %" PRId64 " %" PRId64 " %" PRId64, at->hash, at->op, (int64_t)at->rank, (int64_t)at->count,
             (int64_t)at->most);
    if (past->since_ns != 0 && strcmp(past->key, key) == 0)
        return;
    *past = (struct ras_past){.since_ns = now_ns};
    text_copy(past->key, sizeof past->key, key);
    text_copy(past->hash, sizeof past->hash, at->hash);
}

enum tide_status ras_judge(struct ras_past *past, const char *text, size_t bytes, const struct ras_own *own, uint64_t now_ns,
                           struct finding *ret_finding, struct err *err)
{
    *ret_finding = (struct finding){.probe = "nccl", .subject = RAS_SUBJECT, .times_max = HEALTH_TIMES_ANY};
    json_error_t why;
    json_t *root = json_loadb(text, bytes, 0, &why);
    if (!json_is_object(root)) {
        json_decref(root);
        return err_set(err, TIDE_E_INVALID, "NCCL's RAS answers what is no JSON object: %.100s", root == NULL ? why.text : "");
    }
    struct behind at = {0};
    if (find_behind(root, own, &at)) {
        stands(past, &at, now_ns);
        if (now_ns - past->since_ns >= RAS_STUCK_MS * NS_PER_MS) {
            ret_finding->state = TIDE_HEALTH_DEGRADED;
            finding_say(ret_finding, "rank %" PRId64 " of communicator %.40s has begun %" PRId64 " %.24s, others %" PRId64
                        ", and none moves", (int64_t)at.rank, at.hash, (int64_t)at.count, at.op, (int64_t)at.most);
            text_copy(past->text, sizeof past->text, ret_finding->text);
        }
    } else if (past->since_ns != 0 && !is_about(root, past->hash)) {
        ret_finding->probe = NULL;
    } else {
        past->since_ns = 0;
    }
    json_decref(root);
    return TIDE_OK;
}

bool ras_hung(struct ras_past *past, uint64_t hang_ms, uint64_t now_ns, struct finding *ret_finding)
{
    if (past->since_ns == 0 || past->text[0] == '\0' || past->hung || hang_ms == 0 || now_ns - past->since_ns < hang_ms * NS_PER_MS)
        return false;
    past->hung = true;
    *ret_finding = (struct finding){.probe = "nccl-hang",
                                    .subject = RAS_SUBJECT,
                                    .state = TIDE_HEALTH_DEGRADED,
                                    .restart = true,
                                    .for_ms = RAS_HUNG_FOR_MS,
                                    .times_max = RAS_HUNGS_MAX};
    finding_say(ret_finding, "for %" PRIu64 " s %.200s", hang_ms / MS_PER_S, past->text);
    return true;
}
