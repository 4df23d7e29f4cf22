/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/hang.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/base/mem.h"

/* The least that a rank has done, and the least of all the others. */
struct least {
    uint64_t value, other;
    uint32_t rank;
};

/* How far the members of one communicator are. */
struct group {
    size_t rows, size;
    uint64_t begun, reached; /* the most */
    struct least entered, done;
};

/* Of a rank. */
enum { SEEN = 1, LATE = 2, UNREACHED = 4, UNDONE = 8, WAITS = 16, MESSAGES = 32, AHEAD = 64 };

static int by_comm(const void *a, const void *b, void *rows)
{
    const struct hang_row *x = (const struct hang_row *)rows + *(const size_t *)a,
                          *y = (const struct hang_row *)rows + *(const size_t *)b;
    int order = strcmp(x->comm, y->comm);
    return order != 0 ? order : x->rank != y->rank ? (x->rank < y->rank ? -1 : 1) : 0;
}

static void least_add(struct least *least, uint32_t rank, uint64_t value)
{
    if (value < least->value) {
        if (rank != least->rank)
            least->other = least->value;
        least->value = value;
        least->rank = rank;
    } else if (rank != least->rank && value < least->other) {
        least->other = value;
    }
}

static uint64_t least_of_others(const struct least *least, uint32_t rank)
{
    return rank != least->rank ? least->value : least->other;
}

static void add(struct group *group, const struct hang_row *row)
{
    group->rows++;
    group->size = row->size;
    group->begun = row->begun > group->begun ? row->begun : group->begun;
    group->reached = row->reached > group->reached ? row->reached : group->reached;
    least_add(&group->entered, row->rank, row->begun);
    least_add(&group->done, row->rank, row->done);
}

/* Others' streams have come to it. */
static bool is_unreached(const struct group *group, const struct hang_row *row)
{
    return row->unreached != 0 && row->unreached <= group->reached;
}

/* All others have completed it, so that it waits for none of them there. */
static bool is_undone(const struct group *group, const struct hang_row *row)
{
    uint64_t others = least_of_others(&group->done, row->rank);
    return row->undone != 0 && others != UINT64_MAX && row->undone <= others;
}

static bool is_late(const struct group *group, const struct hang_row *row)
{
    return row->begun < group->begun || is_unreached(group, row) || is_undone(group, row);
}

/* It has entered what another has not. */
static bool is_ahead(const struct group *group, const struct hang_row *row)
{
    return row->begun > least_of_others(&group->entered, row->rank);
}

struct finding_hang {
    const struct hang_row *rows;
    size_t *order;        /* rows, by communicator and rank */
    struct group *groups; /* of the row at that place of the order */
    unsigned char *ranks; /* what is known of each */
    size_t count;
    uint32_t world;
    bool whole;     /* every communicator is known to the end */
    bool recording; /* a rank is in a checkpoint */
};

static void gather(struct finding_hang *f)
{
    for (size_t i = 0, from = 0; i <= f->count; i++) {
        if (i < f->count && strcmp(f->rows[f->order[i]].comm, f->rows[f->order[from]].comm) == 0)
            continue;
        const struct least none = {.value = UINT64_MAX, .other = UINT64_MAX, .rank = UINT32_MAX};
        struct group group = {.entered = none, .done = none};
        for (size_t r = from; r < i; r++)
            add(&group, &f->rows[f->order[r]]);
        for (size_t r = from; r < i; r++)
            f->groups[r] = group;
        f->whole = f->whole && group.rows == group.size;
        from = i;
    }
}

/* Is the row at `other` of the same communicator and rank as that at `at`, and late? */
static bool is_late_beside(const struct finding_hang *f, size_t at, size_t other)
{
    const struct hang_row *a = &f->rows[f->order[at]], *b = &f->rows[f->order[other]];
    return a->rank == b->rank && strcmp(a->comm, b->comm) == 0 && is_late(&f->groups[other], b);
}

/* Of a process that is several members of a communicator one waits for another: that is no waiting for another process. Such rows are
 * beside each other. */
static bool waits_for_itself(const struct finding_hang *f, size_t at)
{
    uint32_t rank = f->rows[f->order[at]].rank;
    bool late = false;
    for (size_t i = at; !late && i-- > 0 && f->rows[f->order[i]].rank == rank;)
        late = is_late_beside(f, at, i);
    for (size_t i = at + 1; !late && i < f->count && f->rows[f->order[i]].rank == rank; i++)
        late = is_late_beside(f, at, i);
    return late;
}

/* For another process. One whose communicator is not known to the end may do so; one in a checkpoint has a reason of its own. */
static bool waits(const struct finding_hang *f, size_t at)
{
    const struct hang_row *row = &f->rows[f->order[at]];
    const struct group *group = &f->groups[at];
    bool inside = row->undone != 0 && !is_unreached(group, row) && !is_undone(group, row);
    return is_ahead(group, row) || (inside && !waits_for_itself(f, at)) || row->recording || group->rows != group->size;
}

static void mark_ranks(struct finding_hang *f)
{
    for (size_t i = 0; i < f->count; i++) {
        const struct hang_row *row = &f->rows[f->order[i]];
        const struct group *group = &f->groups[i];
        unsigned is = SEEN | (is_late(group, row) ? LATE : 0u) | (is_unreached(group, row) ? UNREACHED : 0u) |
                      (is_undone(group, row) ? UNDONE : 0u) | (waits(f, i) ? WAITS : 0u) | (row->messages ? MESSAGES : 0u) |
                      (is_ahead(group, row) ? AHEAD : 0u);
        f->recording = f->recording || row->recording;
        if (row->rank < f->world)
            f->ranks[row->rank] = (unsigned char)(f->ranks[row->rank] | is);
    }
}

static bool to_blame(const struct finding_hang *f, uint32_t rank)
{
    return (f->ranks[rank] & LATE) && !(f->ranks[rank] & WAITS);
}

/* The row in which it is late. */
static size_t late_row(const struct finding_hang *f, uint32_t rank, uint64_t *ret_op)
{
    for (size_t i = 0; i < f->count; i++) {
        const struct hang_row *row = &f->rows[f->order[i]];
        if (row->rank != rank || !is_late(&f->groups[i], row))
            continue;
        *ret_op = is_unreached(&f->groups[i], row) ? row->unreached : is_undone(&f->groups[i], row) ? row->undone : row->begun + 1;
        return f->order[i];
    }
    return 0;
}

static void blame(const struct finding_hang *f, struct hang_verdict *to)
{
    unsigned all = UNREACHED | UNDONE, some = 0;
    for (uint32_t rank = 0; rank < f->world; rank++) {
        if (!to_blame(f, rank))
            continue;
        uint64_t op = 0;
        if (to->count < HANG_BLAMED_MAX)
            to->blamed[to->count] = late_row(f, rank, &op);
        to->op = to->count++ == 0 ? op : to->op;
        all &= f->ranks[rank];
        some |= f->ranks[rank];
    }
    to->kind = all & UNREACHED ? HANG_NOT_REACHED : all & UNDONE ? HANG_NOT_DONE : HANG_NOT_ENTERED;
    /* One of several may wait for a message of another one, and one alone for that of a rank in a checkpoint. */
    if ((to->count > 1 || f->recording) && (some & MESSAGES))
        *to = (struct hang_verdict){.kind = HANG_NONE};
}

/* Each that is late is ahead elsewhere. */
static bool in_a_circle(const struct finding_hang *f)
{
    bool late = false;
    for (uint32_t rank = 0; rank < f->world; rank++) {
        late = late || (f->ranks[rank] & LATE);
        if ((f->ranks[rank] & LATE) && !(f->ranks[rank] & AHEAD))
            return false;
    }
    return late;
}

/* While a rank is in a checkpoint the others may well wait for that. */
static void blame_nobody(const struct finding_hang *f, struct hang_verdict *to)
{
    if (f->recording)
        return;
    bool circle = in_a_circle(f);
    for (size_t i = 0; f->whole && i < f->count && to->kind == HANG_NONE; i++) {
        const struct hang_row *row = &f->rows[f->order[i]];
        bool inside = row->undone != 0 && row->undone <= f->groups[i].entered.value;
        if (circle ? is_ahead(&f->groups[i], row) : inside)
            *to = (struct hang_verdict){.kind = circle ? HANG_CROSSED : HANG_INSIDE, .blamed = {f->order[i]}, .op = row->undone};
    }
}

static void find(struct finding_hang *f, struct hang_verdict *to)
{
    for (size_t i = 0; i < f->count; i++)
        f->order[i] = i;
    qsort_r(f->order, f->count, sizeof *f->order, by_comm, (void *)(uintptr_t)f->rows);
    gather(f);
    mark_ranks(f);
    bool blamed = false;
    for (uint32_t rank = 0; rank < f->world; rank++) {
        if (!(f->ranks[rank] & SEEN))
            return;
        blamed = blamed || to_blame(f, rank);
    }
    if (blamed)
        blame(f, to);
    else
        blame_nobody(f, to);
}

void hang_find(const struct hang_row *rows, size_t count, uint32_t world, struct hang_verdict *ret_verdict)
{
    struct finding_hang f = {.rows = rows, .count = count, .world = world, .whole = true};
    *ret_verdict = (struct hang_verdict){.kind = HANG_NONE};
    if (count == 0 || world == 0)
        return;
    f.order = mem_array(count, sizeof *f.order);
    f.groups = mem_array(count, sizeof *f.groups);
    f.ranks = mem_array(world, sizeof *f.ranks);
    find(&f, ret_verdict);
    mem_free(f.order);
    mem_free(f.groups);
    mem_free(f.ranks);
}

/* ---- sentences ---- */

/* "rank 0 has entered 61 and completed 60, …": of each member of that communicator, as far as there is room. */
static void say_counts(const struct hang_row *rows, size_t count, const char *comm, char *to, size_t size)
{
    size_t used = strlen(to), left = 0;
    for (size_t i = 0; i < count; i++) {
        char one[96];
        if (strcmp(rows[i].comm, comm) != 0)
            continue;
        int bytes = snprintf(one, sizeof one, ", rank %u has entered %" PRIu64 " and completed %" PRIu64, rows[i].rank, rows[i].begun,
                             rows[i].done);
        if (left > 0 || used + (size_t)bytes + sizeof ", and N more" > size) {
            left++;
            continue;
        }
        memcpy(to + used, one, (size_t)bytes + 1);
        used += (size_t)bytes;
    }
    if (left > 0)
        snprintf(to + used, size - used, ", and %zu more", left);
}

static uint64_t most_begun(const struct hang_row *rows, size_t count, const char *comm)
{
    uint64_t most = 0;
    for (size_t i = 0; i < count; i++)
        if (strcmp(rows[i].comm, comm) == 0 && rows[i].begun > most)
            most = rows[i].begun;
    return most;
}

void hang_text(const struct hang_row *rows, size_t count, const struct hang_verdict *verdict, size_t at, char *to, size_t size)
{
    const struct hang_row *row = &rows[at];
    to[0] = '\0';
    switch (verdict->kind) {
    case HANG_NOT_ENTERED:
        snprintf(to, size, "rank %u has entered %" PRIu64 " collectives of communicator %s, others %" PRIu64 ", and wait for it",
                 row->rank, row->begun, row->name, most_begun(rows, count, row->comm));
        break;
    case HANG_NOT_REACHED:
        snprintf(to, size,
                 "rank %u has entered collective %" PRIu64
                 " of communicator %s, but what is before it in its stream does not end; others wait in it",
                 row->rank, row->unreached, row->name);
        break;
    case HANG_NOT_DONE:
        snprintf(to, size, "rank %u has not completed collective %" PRIu64 " of communicator %s, and all others have", row->rank,
                 row->undone, row->name);
        break;
    case HANG_INSIDE:
        snprintf(to, size, "all %u members of communicator %s have entered collective %" PRIu64 ", and it does not complete", row->size,
                 row->name, row->undone);
        say_counts(rows, count, row->comm, to, size);
        break;
    case HANG_CROSSED:
        snprintf(to, size, "ranks wait for each other in different communicators; of %s", row->name);
        say_counts(rows, count, row->comm, to, size);
        break;
    default:
        break;
    }
}
