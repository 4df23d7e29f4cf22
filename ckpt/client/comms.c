/* SPDX-License-Identifier: Apache-2.0 */
#include <unistd.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/client/client.h"
#include "ckpt/cut/comm_id.h"

/* Present only when those libraries are loaded. */
#pragma weak tide_mpi_comms
#pragma weak tide_nccl_attach
#pragma weak tide_nccl_detach
#pragma weak tide_nccl_may_record
#pragma weak tide_nccl_comms
#pragma weak tide_nccl_channels
#pragma weak tide_nccl_members
#pragma weak tide_nccl_take
#pragma weak tide_nccl_held_bytes
#pragma weak tide_nccl_held_write
#pragma weak tide_nccl_load
#pragma weak tide_nccl_over
#pragma weak tide_nccl_tell
#pragma weak tide_nccl_leave

#define MARKS_MS 2000u /* for the bookmarks of all ranks, and then for messages: the rank stands still */
#define ANSWER_MS 500u /* behind the deadline of a question, until its answer is here */

void comms_attach(struct tide *tide)
{
    if (tide_nccl_attach == NULL || tide->counted || !tide->in_job || getpid() != tide->pid)
        return;
    tide->counted = tide_nccl_attach(TIDE_NCCL_LINK_VERSION);
    comms_progress(tide);
}

void comms_progress(const struct tide *tide)
{
    if (tide->counted)
        tide_nccl_tell(&tide->page->progress);
}

void comms_detach(struct tide *tide)
{
    if (tide->counted && getpid() == tide->pid) {
        tide_nccl_tell(NULL);
        tide_nccl_detach();
    }
    tide->counted = 0;
}

void comms_over(const struct tide *tide)
{
    if (tide->counted)
        tide_nccl_over();
}

void comms_leave(const struct tide *tide)
{
    if (!tide->counted)
        return;
    tide_nccl_tell(NULL);
    tide_nccl_leave();
}

enum tide_status comms_may_record(const struct tide *tide, struct err *err)
{
    char why[TIDE_TEXT_MAX + 1] = "";
    enum tide_status status = tide->counted ? tide_nccl_may_record(why, sizeof why) : TIDE_OK;
    return status == TIDE_OK ? TIDE_OK : err_set(err, status, "%s", why[0] ? why : tide_status_text(status));
}

/* ---- messages of NCCL's that are under way ---- */

/* 0: what leads here is not known, as nobody waits for it or somebody has not come. */
static int ask_marks(struct tide *tide)
{
    struct control_marks *marks = &tide->page->marks;
    struct local_message message = {.type = LOCAL_MARKS,
                                    .cut = tide->record.order.cut,
                                    .attempt = tide->record.order.attempt,
                                    .bytes = MARKS_MS,
                                    .question = ++tide->questions},
                         answer;
    struct err none;
    uint64_t deadline_ns = clock_mono_ns() + (MARKS_MS + ANSWER_MS) * NS_PER_MS;
    marks->channel_count = (uint32_t)tide_nccl_channels(marks->channels, CONTROL_CHANNELS_MAX);
    marks->member_count = (uint32_t)tide_nccl_members(marks->members, CONTROL_CHANNELS_MAX);
    message.slot = marks->member_count > 0;
    if (message.slot == 0)
        return channel_send(tide, &message, deadline_ns, &none) == TIDE_OK;
    return channel_ask(tide, &message, 1u << LOCAL_MARKED, deadline_ns, &answer, &none) == TIDE_OK;
}

enum tide_status comms_take(struct tide *tide, struct err *err)
{
    const struct control_marks *marks = &tide->page->marks;
    char why[TIDE_TEXT_MAX + 1] = "";
    if (!tide->counted || tide->record.order.epoch != 0 || tide->world_size <= 1 || !ask_marks(tide))
        return TIDE_OK; /* whether anything is under way is for the leader to find */
    if (marks->member_count == 0)
        return TIDE_OK;
    enum tide_status status = tide_nccl_take(marks->arriving, marks->arriving_count, tide->options.channel_bytes_max,
                                             clock_mono_ns() + MARKS_MS * NS_PER_MS, why, sizeof why);
    return status == TIDE_OK ? TIDE_OK : err_set(err, status, "%s", why);
}

uint64_t comms_held_bytes(const struct tide *tide)
{
    return tide->counted ? tide_nccl_held_bytes() : 0;
}

enum tide_status comms_held_write(const struct tide *tide, void *to, uint64_t bytes, struct err *err)
{
    char why[TIDE_TEXT_MAX + 1] = "";
    uint64_t deadline_ns = clock_mono_ns() + tide->options.deadline_ms * NS_PER_MS;
    enum tide_status status = bytes > 0 ? tide_nccl_held_write(to, bytes, deadline_ns, why, sizeof why) : TIDE_OK;
    return status == TIDE_OK ? TIDE_OK : err_set(err, status, "%s", why);
}

enum tide_status comms_may_load(const struct tide *tide, uint64_t cut, uint64_t bytes, struct err *err)
{
    if (bytes == 0 || tide->counted)
        return TIDE_OK;
    return err_set(err, TIDE_E_MISMATCH,
                   "checkpoint %llu holds %llu bytes of NCCL messages that were on their way to rank %u, and nothing here "
                   "could deliver them: load libtidemark_nccl, as the program that made it did",
                   (unsigned long long)cut, (unsigned long long)bytes, tide->rank);
}

enum tide_status comms_load(const struct tide *tide, uint64_t cut, const void *log, uint64_t bytes, struct err *err)
{
    char why[TIDE_TEXT_MAX + 1] = "";
    enum tide_status status = bytes > 0 ? tide_nccl_load(log, (size_t)bytes, why, sizeof why) : TIDE_OK;
    return status == TIDE_OK
               ? TIDE_OK
               : err_set(err, status, "the NCCL messages of checkpoint %llu that were on their way to rank %u: %s",
                         (unsigned long long)cut, tide->rank, why);
}

/* ---- told to the agent ---- */

/* Names may be longer there than here. */
static size_t tell_mpi(struct control_comm *to)
{
    struct tide_mpi_comm *comms = mem_try_array(CONTROL_COMMS_MAX, sizeof *comms);
    size_t count = comms != NULL ? tide_mpi_comms(comms, CONTROL_COMMS_MAX) : 0;
    if (count > CONTROL_COMMS_MAX)
        count = CONTROL_COMMS_MAX;
    for (size_t i = 0; i < count; i++) {
        to[i] = (struct control_comm){.id = comms[i].id, .collectives = comms[i].collectives, .size = comms[i].size};
        text_copy(to[i].name, sizeof to[i].name, comms[i].name);
    }
    mem_free(comms);
    return count;
}

/* Where MPI's are not told, this says that the rank has told all it has. */
static size_t tell_world(const struct tide *tide, struct control_comm *to)
{
    *to = (struct control_comm){.id = CUT_COMM_WORLD, .size = tide->world_size};
    text_copy(to->name, sizeof to->name, "of all ranks");
    return 1;
}

void comms_tell(const struct tide *tide)
{
    struct control_comm *comms = tide->page->comms;
    size_t count = tide->coloured ? tell_mpi(comms) : tide->counted ? tell_world(tide, comms) : 0;
    if (tide->counted)
        count += tide_nccl_comms(comms + count, CONTROL_COMMS_MAX - count);
    atomic_store(&tide->page->record_comms, (uint32_t)count);
}
