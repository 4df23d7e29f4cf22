/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/raft/sim.h"

#include <xxhash.h>

uint64_t entry_hash(const struct raft_entry *entry)
{
    uint64_t seed = mix(entry->index, mix(entry->term, entry->type));
    return entry->blob == NULL ? seed : XXH3_64bits_withSeed(entry->blob->data, entry->blob->bytes, seed);
}

struct raft_blob *command_blob(const struct command *command)
{
    struct raft_blob *blob = raft_blob_create(NULL, sizeof *command + command->filler);
    memcpy(blob->data, command, sizeof *command);
    memset(blob->data + sizeof *command, (int)(command->value & 127u), command->filler);
    return blob;
}

/* Each request once: a client begins its next one when the last was acknowledged, so a gap is a lost one. */
static void session_take(struct world *w, struct machine *machine, const struct command *command)
{
    uint64_t *newest = &machine->sessions[command->client];
    if (command->sequence == *newest + 1)
        *newest = command->sequence;
    else if (command->sequence > *newest)
        violation(w, "request %" PRIu64 " of client %u is applied after %" PRIu64 ": one between them was lost",
                  command->sequence, command->client, *newest);
    else
        w->dupes++;
}

void machine_apply(struct world *w, struct machine *machine, const struct raft_entry *entry)
{
    if (entry->index != machine->applied + 1)
        violation(w, "entry %" PRIu64 " is applied after %" PRIu64, entry->index, machine->applied);
    machine->applied = entry->index;
    machine->term = entry->term;
    machine->chain = mix(machine->chain, entry_hash(entry));
    struct command command;
    if (entry->type != RAFT_COMMAND)
        return;
    if (entry->blob == NULL || entry->blob->bytes < sizeof command) {
        violation(w, "entry %" PRIu64 " has lost its bytes", entry->index);
        return;
    }
    memcpy(&command, entry->blob->data, sizeof command);
    if (command.client < CLIENTS_MAX)
        session_take(w, machine, &command);
}

void machine_print(const struct machine *machine, struct image *image, uint64_t filler, uint64_t salt)
{
    image->index = machine->applied;
    image->term = machine->term;
    image->total = sizeof *machine + filler + salt % 16;
    image->bytes = mem_alloc(image->total);
    memcpy(image->bytes, machine, sizeof *machine);
    memset(image->bytes + sizeof *machine, (int)(salt & 127u), image->total - sizeof *machine);
    image->digest = XXH3_64bits(image->bytes, image->total);
}

bool machine_parse(const struct image *image, struct machine *ret_machine)
{
    if (image->total < sizeof *ret_machine || XXH3_64bits(image->bytes, image->total) != image->digest)
        return false;
    memcpy(ret_machine, image->bytes, sizeof *ret_machine);
    return true;
}
