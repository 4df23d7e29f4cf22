/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_FAKE_MPI_H
#define TESTS_UNIT_FAKE_MPI_H

/* A libtidemark_mpi that the test plays: it follows the page as ckpt/client/mpi/link.h demands, and notes how it was called.
 */

#include "ckpt/client/mpi/link.h"
#include "ckpt/cut/channel.h"
#include "tests/unit/fake_step.h"

struct fake_mpi {
    int absent; /* MPI was not initialised yet */
    const struct tide_mpi_host *host;
    unsigned polls, flips, recorded, detached;
    uint64_t flipped; /* to this epoch, last */
    enum tide_status may;
    const char *may_why;
    size_t comms;              /* how many there are */
    unsigned at_flip;          /* messages that have arrived by then and go into the log first */
    enum tide_status appended; /* how the last of them went */
    enum tide_status load_status;
    const char *load_why;
    unsigned char *loaded;
    size_t loaded_bytes;
};
static struct fake_mpi fake_mpi;

static inline struct cut_entry fake_entry(uint64_t number, uint64_t bytes)
{
    return (struct cut_entry){
        .comm = 100 + number % 3, .source = (uint32_t)number, .tag = (int32_t)number * 2, .bytes = bytes};
}

/* Message `number`, whose payload follows from it. */
static inline enum tide_status fake_append(uint64_t number, uint64_t bytes)
{
    struct cut_entry entry = fake_entry(number, bytes);
    void *whole = mem_alloc(cut_channel_entry_bytes(bytes));
    test_fill(cut_channel_frame(whole, &entry), bytes, "noise", number);
    enum tide_status status = fake_mpi.host->append(fake_mpi.host->context, whole, cut_channel_entry_bytes(bytes));
    mem_free(whole);
    return status;
}

/* A log of `count` messages of these bytes, numbered from 1. */
static inline void fake_check_log(const void *log, size_t log_bytes, unsigned count, uint64_t bytes)
{
    struct cut_channel channel;
    struct cut_entry entry, expected;
    const void *payload = NULL;
    struct err err = {0};
    unsigned char *wanted = mem_alloc(bytes + 1);
    assert_int_equal(cut_channel_open(&channel, log, log_bytes, &err), TIDE_OK);
    assert_int_equal(channel.comms, fake_mpi.comms);
    for (unsigned i = 1; i <= count + 1; i++) {
        assert_int_equal(cut_channel_next(&channel, &entry, &payload, &err), TIDE_OK);
        if (i > count)
            break;
        expected = fake_entry(i, bytes);
        assert_non_null(payload);
        assert_memory_equal(&entry, &expected, sizeof entry);
        test_fill(wanted, bytes, "noise", i);
        assert_memory_equal(payload, wanted, bytes);
    }
    assert_null(payload);
    mem_free(wanted);
}

int tide_mpi_attach(const struct tide_mpi_host *host)
{
    if (fake_mpi.absent)
        return 0;
    fake_mpi.host = host;
    return 1;
}

void tide_mpi_detach(void)
{
    fake_mpi.detached++;
    fake_mpi.host = NULL;
}

enum tide_status tide_mpi_may_record(char *why, size_t why_size)
{
    text_copy(why, why_size, fake_mpi.may_why ? fake_mpi.may_why : "");
    return fake_mpi.may;
}

void tide_mpi_flip(uint64_t epoch, int recorded)
{
    fake_mpi.flips++;
    fake_mpi.recorded += recorded != 0;
    fake_mpi.flipped = epoch;
    for (unsigned i = 1; recorded && i <= fake_mpi.at_flip; i++)
        fake_mpi.appended = fake_append(i, 1000);
    atomic_store(&fake_mpi.host->page->epoch, epoch);
}

size_t tide_mpi_comms(struct tide_mpi_comm *to, size_t room)
{
    for (size_t i = 0; i < fake_mpi.comms && i < room; i++) {
        to[i] = (struct tide_mpi_comm){.id = 100 + i, .collectives = 7 * i, .size = 2};
        snprintf(to[i].name, sizeof to[i].name, "comm %zu", i);
    }
    return fake_mpi.comms;
}

void tide_mpi_poll(void)
{
    struct control_page *page = fake_mpi.host->page;
    fake_mpi.polls++;
    uint64_t armed = atomic_load(&page->armed_epoch), flip = atomic_load(&page->flip_epoch);
    if (armed > atomic_load(&page->epoch))
        atomic_store(&page->polling_epoch, armed);
    if (flip > atomic_load(&page->epoch))
        tide_mpi_flip(flip, 0);
}

enum tide_status tide_mpi_load(const void *log, size_t bytes, char *why, size_t why_size)
{
    text_copy(why, why_size, fake_mpi.load_why ? fake_mpi.load_why : "");
    fake_mpi.loaded = mem_alloc(bytes);
    memcpy(fake_mpi.loaded, log, bytes);
    fake_mpi.loaded_bytes = bytes;
    return fake_mpi.load_status;
}

/* As an agent does: the epoch before the step. */
static inline void fake_arm_epoch(struct fake_step *step, uint64_t cut, uint32_t attempt, uint64_t epoch, uint64_t at_step,
                                  uint32_t slot)
{
    atomic_store(&step->page->armed_cut, cut);
    atomic_store(&step->page->armed_attempt, attempt);
    atomic_store(&step->page->armed_slot, slot);
    atomic_store(&step->page->armed_epoch, epoch);
    atomic_store(&step->page->armed_step, at_step);
}

/* Settled everywhere, ended everywhere. */
static inline void fake_close(struct fake_step *step, uint64_t epoch)
{
    atomic_store(&step->page->settled_epoch, epoch);
    atomic_store(&step->page->closed_epoch, epoch);
}

#endif
